"""Formats for other programs, one file a format, and the check against the model that each of them must pass."""
