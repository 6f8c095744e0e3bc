"""Checks of datasets: what is wrong, by file, with its rule and a hint, before the first training step."""
