"""Files from elsewhere: downloads that can be resumed, and archives unpacked so that they can do no harm."""
