"""Datasets: what they are, how they are stored, and how they become batches."""
