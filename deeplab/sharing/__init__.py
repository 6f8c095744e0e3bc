"""Sharing of models: the files that a model consists of, and the card that describes it."""
