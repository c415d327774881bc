"""Images from a trained denoiser: what to make (`recipes`), how (`sampling`), inside a training
step (`source`) or into a store (`writing`, for `jaxfdsl materialise`).

Image i of a set is of recipe i % R with seed i // R: a function of the checkpoint, the recipe, its
number and the seed. The denoiser is `models.denoiser`, its loss `objectives.denoise`, what it is
told `data.condition`; `latents` is what training and sampling share where it works on latents.
"""
