"""`jaxfdsl select`: the best images of a store by a score, as an index list.

`rows` chooses, knowing numbers alone. Scores are columns `score:...`: `agreement` writes that of
images and captions, `representation` five that compare vectors, which `space` reads.
"""
