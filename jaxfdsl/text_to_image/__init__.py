"""Images from captions by somebody else's text-to-image model, offline, into a store.

The one part of the project that runs PyTorch, and `pipeline.py` alone imports it (extra `t2i`).
"""
