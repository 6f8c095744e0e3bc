"""Checks of datasets: every fault by file name, with its rule and the remedy, before the first training step."""
