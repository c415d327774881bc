"""Weights of a run in the folders of other libraries, with the card that says what they are."""
