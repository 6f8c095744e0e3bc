"""Checks of datasets: every fault by file name, with its rule and the hint, before the first training step."""
