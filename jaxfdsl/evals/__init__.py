"""Evaluations: generators of (name, value) pairs."""
