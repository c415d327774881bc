"""Other libraries' parameter names: one declarative table each."""
