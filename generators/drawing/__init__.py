"""What the formula families share: hash, chaos game, raster, patches, colours, views. All integer,
so all exact.
"""
