"""One file per kind of model file that can predict."""
