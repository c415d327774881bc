"""Vectors that stand for images: what encoders see in them, and vectors that no image has.

`jaxfdsl embed` (`command`) writes columns of a set of pictures: an encoder's vectors (`encoders`,
`oracle`, by `writing`), their `clusters`, an autoencoder's latents (`latent_writing`). `jaxfdsl
represent` makes new vectors of such a column: `mixing`, `gaussians`, or RCG's generator (`rdm`).
"""
