"""The sizes of the ViT family."""

import jax
import numpy as np
import pytest

from jaxfdsl.config import default_config
from jaxfdsl.models import variants, vit


# timm's own counts for 224 pixels and 1000 classes.
@pytest.mark.parametrize(
    ("variant", "patch_size", "parameters"),
    [
        ("vit_ti", 16, 5_717_416),
        ("vit_s", 16, 22_050_664),
        ("vit_b", 16, 86_567_656),
        ("vit_l", 16, 304_326_632),
        ("vit_h", 14, 632_045_800),
        ("vit_g", 14, 1_012_611_432),
    ],
)
def test_parameter_counts_are_the_published_ones(variant, patch_size, parameters):
    cfg = default_config().model
    cfg.update(variant=variant, patch_size=patch_size, scan_blocks=True)
    model = vit.build(cfg, 1000, "float32")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(shapes)) == parameters


def test_free_sizes_replace_the_variants_own():
    assert variants.resolve("vit_ti", depth=4) == variants.Variant(192, 4, 3, 4.0)
    assert variants.resolve("vit_b", width=128) == variants.Variant(128, 12, 2, 4.0)
    assert variants.resolve("vit_b", 120, 2, 5, 2.0) == variants.Variant(120, 2, 5, 2.0)


def test_impossible_sizes_are_refused_with_what_to_type():
    with pytest.raises(ValueError, match=r"model\.variant='vit_tiny' .* type vit_ti\."):
        variants.resolve("vit_tiny")
    with pytest.raises(ValueError, match=r"width=100 cannot be split into 3 heads: .*num_heads"):
        variants.resolve("vit_ti", width=100, num_heads=3)
