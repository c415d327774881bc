"""Images from a trained denoiser: what to make (`recipes`), how (`sampling`), inside a training
step (`source`) or into a store (`command`).

Image i of a set is of recipe i % R with seed i // R: a function of the checkpoint, the recipe, its
number and the seed.
"""
