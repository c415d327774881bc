"""Image-text alignment and CLIP's text tower, against plain NumPy in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.models import text
from jaxfdsl.objectives.align import Align, alignment

DESIGN = text.TextDesign(
    width=24,
    depth=2,
    num_heads=3,
    context=9,
    vocabulary=50,
    output=7,
    dtype=np.dtype("float32"),
)


@pytest.fixture(scope="module")
def tower():
    return text.build(DESIGN)


@pytest.fixture(scope="module")
def params(tower):
    """Biases and norms too are other than zero and one."""
    made = jax.jit(tower.init)(jax.random.key(0))
    leaves, tree = jax.tree.flatten(made)
    noise = np.random.default_rng(0)
    moved = [x + 0.1 * noise.standard_normal(x.shape).astype(np.float32) for x in leaves]
    return jax.tree.unflatten(tree, moved)


compare = jax.jit(alignment)


def embeddings(seed: int, captions: int, views: int, width: int = 5):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((captions * views, width)).astype(np.float32)
    return images, rng.standard_normal((captions, width)).astype(np.float32)


def soft_cross_entropies(images, captions, scale, views):
    """Both terms with dense soft targets, as the paper writes them."""
    images, captions = (np.asarray(x, np.float64) for x in (images, captions))
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    captions = captions / np.linalg.norm(captions, axis=1, keepdims=True)
    logits = math.exp(scale) * images @ captions.T
    target = np.repeat(np.eye(len(captions)), views, axis=0)
    to_text = -(target * _log_softmax(logits)).sum(1).mean()
    to_image = -(target.T / views * _log_softmax(logits.T)).sum(1).mean()
    return (to_text + to_image) / 2


def _log_softmax(x):
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize("views", [1, 2, 3])
def test_the_loss_is_that_of_the_paper(views):
    images, captions = embeddings(views, 4, views)
    loss, _ = compare(images, captions, jnp.float32(1.5))
    assert float(loss) == pytest.approx(soft_cross_entropies(images, captions, 1.5, views), 1e-6)


def test_with_one_image_a_caption_it_is_clip():
    """Cross-entropy against the diagonal, both ways (arXiv 2103.00020, figure 3)."""
    images, captions = embeddings(0, 6, 1)
    unit = [np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, captions)]
    logits = math.exp(2.0) * unit[0] @ unit[1].T
    clip = -(np.diag(_log_softmax(logits)) + np.diag(_log_softmax(logits.T))).mean() / 2
    assert float(compare(images, captions, jnp.float32(2))[0]) == pytest.approx(clip, 1e-6)


def test_captions_may_come_in_any_order():
    images, captions = embeddings(1, 5, 2)
    order = np.array([3, 0, 4, 1, 2])
    moved = images.reshape(5, 2, -1)[order][:, ::-1].reshape(10, -1)
    before, after = (
        compare(*both, jnp.float32(1))[0] for both in ((images, captions), (moved, captions[order]))
    )
    assert float(before) == pytest.approx(float(after), 1e-6)


def test_images_that_are_not_valid_are_as_if_they_were_not_there():
    images, captions = embeddings(2, 4, 2)
    valid = np.array([1, 1, 1, 1, 0, 0, 1, 1], np.float32)  # the third caption has none left
    kept = np.flatnonzero(valid)
    broken = np.where(valid[:, None] > 0, images, np.float32(1e30))

    def image_terms(images, captions, valid):
        sums = compare(images, captions, jnp.float32(1), valid)[1]
        return sums["to_image"], sums["captions"]

    term, count = image_terms(broken, captions, valid)
    alone, three = image_terms(images[kept], captions[[0, 1, 3]], np.ones(6, np.float32))
    assert float(count) == float(three) == 3
    assert float(term) == pytest.approx(float(alone), 1e-6)
    slope = jax.grad(lambda x: compare(x, captions, jnp.float32(1), valid)[0])(images)
    assert np.isfinite(slope).all() and not np.any(slope[4:6])


def test_metrics_are_the_shares_that_find_their_partner():
    captions = np.eye(3, dtype=np.float32)
    images = np.repeat(captions, 2, axis=0)
    images[0] = captions[1] + 0.1 * captions[2]  # it looks most like the second caption
    outputs = {
        "image_embedding": jnp.asarray(images),
        "text_embedding": jnp.asarray(captions),
        "logit_scale": jnp.asarray(1.0),
    }
    _, metrics = Align().loss(outputs, {"image": jnp.asarray(images)})
    assert float(metrics["image_to_text"]) == pytest.approx(5 / 6)
    assert float(metrics["text_to_image"]) == 1.0


def reference_tower(p, ids):
    """The tower in float64, one caption at a time, written from the paper's description."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), p)
    found = []
    for row in ids:
        x = p["token_embed"][row] + p["pos_embed"]
        for i in range(DESIGN.depth):
            b = p[f"blocks_{i}"]
            qkv = np.einsum("ld,dkhe->klhe", _norm(x, b["norm1"]), b["attn"]["qkv"]["kernel"])
            q, k, v = qkv + b["attn"]["qkv"]["bias"][:, None]
            scores = np.einsum("qhe,khe->hqk", q, k) / math.sqrt(q.shape[-1])
            scores = np.where(np.tril(np.ones(scores.shape[1:])) > 0, scores, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            mixed = np.einsum("hqk,khe->qhe", weights, v)
            x = x + np.einsum("qhe,hed->qd", mixed, b["attn"]["proj"]["kernel"])
            x = x + b["attn"]["proj"]["bias"]
            h = _norm(x, b["norm2"]) @ b["mlp"]["fc1"]["kernel"] + b["mlp"]["fc1"]["bias"]
            h = h / (1 + np.exp(-1.702 * h))
            x = x + h @ b["mlp"]["fc2"]["kernel"] + b["mlp"]["fc2"]["bias"]
        found.append(_norm(x[int(np.argmax(row))], p["norm"]) @ p["projection"])
    return np.stack(found)


def _norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * p["scale"] + p["bias"]


def test_the_tower_is_clips(tower, params):
    ids = np.array([[1, 5, 49, 0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8, 49]], np.int32)
    found = jax.jit(tower.apply)(params, ids)
    np.testing.assert_allclose(found, reference_tower(params, ids), rtol=1e-5, atol=1e-5)


def test_what_comes_after_the_end_changes_nothing(tower, params):
    ids = np.array([[1, 5, 49, 0, 0, 0, 0, 0, 0], [1, 5, 49, 7, 8, 9, 1, 2, 3]], np.int32)
    first, second = jax.jit(tower.apply)(params, ids)
    np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6)


def test_published_sizes():
    """CLIP ViT-B's text tower has 63.4M parameters with its projection (37.8M in the blocks)."""
    design = text.TextDesign(512, 12, 8, 77, 49408, 512, np.dtype("float32"))
    shapes = jax.eval_shape(text.build(design).init, jax.random.key(0))
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
    assert count == 63_428_096


def test_the_scale_begins_at_clips_and_stays_below_a_hundred():
    assert math.exp(text.SCALE_INIT) == pytest.approx(1 / 0.07)
    assert float(text.clamped({"logit_scale": jnp.asarray(9.0)})["logit_scale"]) == pytest.approx(
        math.log(100)
    )
    assert float(text.clamped({"logit_scale": jnp.asarray(-1.0)})["logit_scale"]) == 0.0
