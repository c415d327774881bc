"""`jaxfdsl select`: the best images of a store by a score, as an index list.

`rows` chooses, knowing numbers alone; `agreement` is a score; another score is a module that writes
a `score:` column, as this one does.
"""
