"""Overlays, image grids, the dataset browser."""
