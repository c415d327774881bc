"""Vectors that stand for images: encoders and columns of what they see, clusters, generators."""
