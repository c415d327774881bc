"""Batches as a pure function of the config and the step: sources, order, and work on images.

`sources` says what a source is, `batches` makes batches of several (`plan`, `shuffle`, `numbering`
and `join` are its arithmetic, `prefetch` its workers). A source is a `formula`, or stored pictures:
`stored` reads what `tfds`, `folder`, `parquet` and `store` find, by `records` and `decode`. What is
said of images beside labels: `captions` and `tokens`, `condition`, `latent_column`. `augment` runs
on the device; `prepare` and `materialise` write data sets.
"""
