"""Exports for other programs: one module per format, and the check against the model that every export must pass."""
