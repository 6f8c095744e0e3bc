"""Losses and class balance."""
