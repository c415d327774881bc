"""Networks as pure functions of a nested dict of float32 parameters.

`vit` is the trunk with its `heads`, `text` CLIP's tower beside it; `denoiser` is the same block
under a vector, and `sampler` makes images with it; `autoencoder` is published and frozen.
`variants` has the sizes.
"""
