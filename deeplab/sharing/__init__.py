"""Models for others: which files make one up, and the card that says what it is."""
