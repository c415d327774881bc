"""Recipes: one run a file. `python -m jaxfdsl.main --config=configs/demo.py`."""
