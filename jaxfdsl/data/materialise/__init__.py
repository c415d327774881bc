"""Formula data sets as files, for those who train with PyTorch, Hugging Face's `datasets` or TFDS.

Every image stays a function of its index: what is written is `generators.load(name).draw(i)`, PNG.
`write.materialise` does it. Here is what the command line needs before JAX is loaded.
"""

TARGETS = ("tfds", "webdataset", "parquet", "folder", "arrayrecord", "store")
SHARD_IMAGES = 10_000
