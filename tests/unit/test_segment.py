"""The segmentation loss and its counts against plain NumPy, masks through augmentation and join."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import config
from jaxfdsl.data import augment, formula, join
from jaxfdsl.evals import segmentation
from jaxfdsl.models import vit
from jaxfdsl.objectives.segment import Segment


def some(batch=3, side=4, classes=5, pixels=24, seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (batch, side, side, classes)).astype(np.float32)
    return logits, random.integers(0, classes, (batch, pixels, pixels)).astype(np.int32)


def enlarged(logits, pixels):
    batch, _, _, classes = logits.shape
    return jax.image.resize(logits, (batch, pixels, pixels, classes), "bilinear")


def dense_loss(logits, masks, valid):
    """The loss with every pixel of every class there at once."""
    log_probs = jax.nn.log_softmax(enlarged(logits, masks.shape[1]))
    picked = jnp.take_along_axis(log_probs, masks[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.mean(picked, axis=(1, 2)) * valid) / jnp.sum(valid)


@pytest.mark.parametrize("pixels", [24, 20, 4])
def test_the_loss_and_its_gradient_are_those_of_all_pixels_at_once(pixels):
    logits, masks = some(pixels=pixels)
    valid = np.array([1, 0, 1], np.float32)
    batch = {"mask": jnp.asarray(masks), "valid": jnp.asarray(valid)}

    def ours(logits):
        return Segment().loss({"patch_logits": logits}, batch)[0]

    found, slope = jax.value_and_grad(ours)(jnp.asarray(logits))
    expected, steep = jax.value_and_grad(dense_loss)(jnp.asarray(logits), masks, valid)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(slope, steep, atol=1e-7)


def intersection_and_union(seen, there, classes):
    pairs = [(np.sum((seen == k) & (there == k)), np.sum((seen == k) | (there == k)))
             for k in range(classes)]  # fmt: skip
    return np.transpose(pairs)


def test_counts_are_those_of_numpy_and_rows_that_are_not_valid_count_nothing():
    logits, masks = some(batch=4, classes=7)
    masks[masks == 6] = 0  # a class that is never there
    broken = logits.copy()
    broken[1] = np.nan
    valid = jnp.array([1, 0, 1, 1], jnp.float32)
    outputs, batch = (
        {"patch_logits": jnp.asarray(broken)},
        {"mask": jnp.asarray(masks), "valid": valid},
    )
    sums = Segment().counts(outputs, batch)
    kept = [0, 2, 3]
    seen = np.asarray(enlarged(logits, 24).argmax(-1))[kept]
    inter, union = intersection_and_union(seen, masks[kept], 7)
    np.testing.assert_array_equal(sums["intersection"], inter)
    np.testing.assert_array_equal(sums["union"], union)
    assert (sums["valid"], sums["pixels"]) == (3, 3 * 24 * 24)
    loss, metrics = Segment().loss(outputs, batch)
    assert metrics["miou"] == pytest.approx(np.mean(inter / union))
    assert metrics["pixel_accuracy"] == pytest.approx(inter.sum() / (3 * 24 * 24))
    slope = jax.grad(lambda x: Segment().loss({"patch_logits": x}, batch)[0])(jnp.asarray(logits))
    np.testing.assert_array_equal(slope[1], 0)
    assert np.isfinite(loss)


def test_mean_iou_of_a_set_divides_the_sums_and_leaves_out_classes_that_nobody_saw():
    logits, masks = some(batch=6, classes=9)
    logits[..., 8], masks[masks == 8] = -99, 1

    def step(params, part):
        batch = {"mask": masks[part], "valid": np.isin(part, params).astype(np.float32)}
        outputs = {"patch_logits": logits[part]}
        return Segment().counts(*jax.tree.map(jnp.asarray, (outputs, batch)))

    kept = np.array([0, 1, 2, 4, 5])
    parts = [np.array([0, 1]), np.array([2, 3]), np.array([4, 5])]
    found = dict(segmentation.evaluate(step, kept, parts))
    seen = np.asarray(enlarged(logits, 24).argmax(-1))[kept]
    inter, union = intersection_and_union(seen, masks[kept], 8)
    assert found["miou"] == pytest.approx(np.mean(inter / union), rel=1e-12)
    assert found["pixel_accuracy"] == pytest.approx(np.mean(seen == masks[kept]), rel=1e-12)
    whole = dense_loss(jnp.asarray(logits), masks, np.isin(np.arange(6), kept))
    assert found["loss"] == pytest.approx(float(whole), rel=1e-5)


def test_no_array_of_all_pixels_and_classes_is_made():
    logits, masks = some(batch=4, side=14, classes=255, pixels=224)

    def loss(logits):
        return Segment().loss({"patch_logits": logits}, {"mask": jnp.asarray(masks)})[0]

    compiled = jax.jit(jax.grad(loss)).lower(logits).compile()
    everything = 4 * 4 * 224 * 224 * 255
    assert compiled.memory_analysis().temp_size_in_bytes < everything / 4


def fields(**values):
    own = config.default_config().augment
    own.update({"mean": (0.0,) * 3, "std": (1 / 255,) * 3, **values})  # pixels stay 0-255
    return own


@pytest.mark.parametrize("crop", ["none", "pad", "random_resized"])
@pytest.mark.parametrize("size", [16, 32, 48])
def test_masks_go_where_their_images_go(crop, size):
    # Halves of one value each: images are smooth and masks are not, both show where the edge went.
    images = np.zeros((40, 32, 32, 1), np.uint8)
    images[:, :12], images[:, 12:, 20:] = 200, 100
    masks = (images[..., 0] // 100).astype(np.int32)
    own = fields(crop=crop, crop_scale=(0.3, 1.0), flip_lr=True, flip_ud=True)
    key = jax.random.key(0)
    rows = jnp.arange(len(images))

    @jax.jit
    def augmented(images, masks):
        views = {
            "image": augment.crop(images, key, own, size, rows),
            "mask": augment.crop_masks(masks, key, own, size, rows),
        }
        return augment.finish(views, key, own, rows)

    made = augmented(images, masks)
    seen, found = np.asarray(made["image"])[..., 0], np.asarray(made["mask"])
    assert found.dtype == np.int32 and found.shape == seen.shape
    assert np.mean(np.abs(seen - 100 * found) > 50) < 0.04
    if crop != "random_resized" and size == 32:
        np.testing.assert_array_equal(np.round(seen), 100 * found)
    assert len({view.tobytes() for view in found}) > 2


def test_a_crop_of_a_mask_is_pillows_nearest():
    from PIL import Image

    from jaxfdsl.data.augment import resample

    masks = np.random.default_rng(0).integers(0, 255, (4, 40, 40)).astype(np.uint8)
    boxes = np.array([[0, 0, 40, 40], [3, 5, 20, 31], [39, 39, 1, 1], [10, 0, 7, 40]])
    for size in (16, 40, 64):
        ours = resample.nearest(masks, jnp.asarray(boxes), size)
        for mask, (top, left, height, width), found in zip(masks, boxes, ours, strict=True):
            cut = Image.fromarray(mask).crop((left, top, left + width, top + height))
            theirs = cut.resize((size, size), Image.Resampling.NEAREST)
            np.testing.assert_array_equal(found, np.asarray(theirs))
        np.testing.assert_array_equal(resample.nearest(masks, None, size)[0], ours[0])


def test_evaluated_masks_are_cut_like_their_images():
    masks = np.arange(64)[None, :, None] // 2 + np.zeros((1, 64, 64), np.int64)
    found = augment.evaluate_masks(masks.astype(np.int32), 28, crop_fraction=0.875)
    np.testing.assert_array_equal(found[0, :, 0], np.arange(2, 30))


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Sixty pictures of two categories each, with masks: instance i shows i % 4 and (i + 1) % 4."""

    name: str = "scenes"
    num_classes: int = 4
    num_recipes: int = 1
    has_mask: bool = True
    scenes: bool = True
    instances: int | None = 60
    size: int = 4
    channels: int = 1
    table: dict = dataclasses.field(default_factory=dict)

    def recipes(self, indices):
        index = np.asarray(indices)
        return np.stack([0 * index, index], 1).astype(np.uint32)

    def fields(self, recipes, table):
        label = jnp.stack([recipes[:, 1] % 4, (recipes[:, 1] + 1) % 4, 0 * recipes[:, 1]], 1)
        label = label.astype(jnp.int32).at[:, 2].set(-1)
        columns = jnp.concatenate([label + 1, 0 * label[:, :1]], 1)
        mask = jnp.broadcast_to(columns[:, None], (len(recipes), 4, 4))
        image = (60 * mask).astype(jnp.uint8)[..., None]
        return {"image": image, "label": label, "mask": mask}

    def identity(self):
        return "scenes"


def test_scenes_are_shuffled_each_epoch_and_an_endless_set_never_repeats_one():
    finite = formula.from_dataset(Scenes(), seed=3)
    seen = finite.rows(np.arange(120))["recipe"]
    assert (finite.num_examples, finite.targets, finite.scenes) == (60, ("label", "mask"), True)
    assert not seen[:, 0].any()
    epochs = seen[:, 1].reshape(2, 60)
    assert all(len(set(epoch.tolist())) == 60 for epoch in epochs) and np.any(
        epochs[0] != epochs[1]
    )
    endless = formula.from_dataset(Scenes(instances=None), seed=3)
    held_out = formula.from_dataset(Scenes(), seed=3, train=False, held_out=True)
    seen = endless.rows(np.arange(5000))["recipe"]
    kept = held_out.rows(np.arange(5000))["recipe"]
    assert endless.num_examples is None and held_out.num_examples is None
    assert len(np.unique(seen[:, 1])) == len(np.unique(kept[:, 1])) == 5000
    assert seen[:, 1].max() < formula.HELD_OUT <= kept[:, 1].min()


def test_scenes_beside_single_labels_get_equally_many_and_their_masks_move_up():
    drawn = Scenes().fields(jnp.array([[0, 2], [0, 3]], jnp.uint32), {})
    moved = join.moved_up(drawn, 10)
    np.testing.assert_array_equal(moved["label"], [[12, 13, -1], [13, 10, -1]])
    np.testing.assert_array_equal(moved["mask"][0, 0], [13, 14, 0, 0])
    np.testing.assert_array_equal(join.moved_up(drawn, 0)["mask"], drawn["mask"])
    single = {"image": jnp.zeros((2, 4, 4, 1), jnp.uint8), "label": jnp.array([0, 9], jnp.int32)}
    joined = join.join([single, drawn], (0, 10))
    assert set(joined) == {"image", "label"}
    np.testing.assert_array_equal(
        joined["label"], [[0, -1, -1], [12, 13, -1], [9, -1, -1], [13, 10, -1]]
    )


def test_the_gallery_of_scenes_shows_each_beside_its_mask(tmp_path):
    from jaxfdsl.report import gallery

    source = formula.from_dataset(Scenes())
    picture = gallery.write(tmp_path / "gallery.png", source, rows=2, columns=4)
    corners = picture[gallery.TOP + 2 :: 99, gallery.LEFT + 2 :: 99]
    shown = np.array([[0, 1], [2, 3]]) % 4 + 1
    np.testing.assert_array_equal(corners[:, ::2, 0], 60 * shown)
    colours = gallery.painted(np.arange(25, dtype=np.int32).reshape(1, 5, 5) % 5)[0, 0]
    np.testing.assert_array_equal(corners[:, 1::2], colours[shown])
    assert not colours[0].any() and len(np.unique(colours, axis=0)) == 5


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_a_model_has_the_heads_that_are_asked_for(pool):
    cfg = config.default_config().model
    cfg.update(image_size=24, patch_size=8, width=16, depth=1, num_heads=2, pool=pool)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 24, 24, 3)).astype(np.float32))
    both = vit.build(cfg, {"head": 5, "patch_head": 7}, "float32")
    params = both.init(jax.random.key(0))
    outputs = both.apply(params, images, train=False)
    assert outputs["logits"].shape == (2, 5) and outputs["patch_logits"].shape == (2, 3, 3, 7)
    for outs, name in (({"head": 5}, "logits"), ({"patch_head": 7}, "patch_logits")):
        model = vit.build(cfg, outs, "float32")
        own = {k: v for k, v in params.items() if k in outs or k not in ("head", "patch_head")}
        assert jax.tree.structure(jax.eval_shape(model.init, jax.random.key(0))) == (
            jax.tree.structure(own)
        )
        alone = model.apply(own, images, train=False)
        assert set(alone) == {"features", name}
        np.testing.assert_allclose(alone[name], outputs[name], atol=1e-6)
    # A patch's logits hang on where it is: the columns of a shifted picture are shifted alike.
    moved = params | {"pos_embed": 0 * params["pos_embed"]}
    found = both.apply(moved, images, train=False)["patch_logits"]
    rolled = both.apply(moved, jnp.roll(images, 8, axis=2), train=False)["patch_logits"]
    np.testing.assert_allclose(rolled, jnp.roll(found, 1, axis=2), atol=1e-4)
