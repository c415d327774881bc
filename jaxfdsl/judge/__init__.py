"""How near a made set is to real images, in the space of an encoder; `jaxfdsl judge`.

`measures.compare` takes features [N, D] on the host, of any number, and gives all measures:
`frechet`, `kernel`, `manifold` have one family each, `balls` is the search that `manifold` needs.
"""
