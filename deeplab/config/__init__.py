"""Typed settings, one file per stage; flags; the config.yml of a run."""
