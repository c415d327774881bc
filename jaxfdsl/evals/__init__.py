"""Measures: generators of (name, value) pairs, of sums over a set, of features or of embeddings.

They know no config and no source; `jaxfdsl.evaluators` brings them to a run.
"""
