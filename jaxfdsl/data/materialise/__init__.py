"""Formula data sets as files, for those who train with PyTorch, Hugging Face's `datasets` or TFDS.

Every image stays a function of its index: what is written is `generators.load(name).draw(i)`, PNG.
`write.materialise` does it. Here is what the command line says before JAX is loaded.
"""

TARGETS = ("tfds", "webdataset", "parquet", "folder", "arrayrecord")
SHARD_IMAGES = 10_000
HELP = """\
Write a formula data set as files, for PyTorch, Hugging Face's `datasets` or TFDS.

  jaxfdsl materialise exfractaldb-1k --to webdataset --out DIR
  jaxfdsl materialise segrcdb --to parquet --instances 10000 --size 256 --out DIR

After a kill, type the same command again: finished files are kept. DIR/README.md has the lines
that load what was written, DIR/manifest.json the sha256 of each file.
"""
