"""The vision transformer, as pure functions of a nested dict of parameters."""
