"""Zero-shot classification and retrieval."""

import numpy as np

from jaxfdsl.evals import retrieval, zero_shot

AXES = np.eye(4, dtype=np.float32)


def test_a_class_is_the_mean_of_its_prompts_on_the_unit_sphere():
    asked = []

    def encode(captions):
        asked.extend(captions)
        return np.stack([AXES[0], 3 * AXES[1], AXES[2], AXES[2]])

    found = zero_shot.class_embeddings(encode, ["fern", "tree"], ["a {}.", "many {}s"])
    assert asked == ["a fern.", "many ferns", "a tree.", "many trees"]
    np.testing.assert_allclose(found, [[2**-0.5, 2**-0.5, 0, 0], [0, 0, 1, 0]], atol=1e-6)


def test_an_image_is_of_the_nearest_class():
    images = np.stack([AXES[0], 2 * AXES[1], AXES[0] + 0.9 * AXES[2], AXES[3]])
    labels = np.array([0, 1, 2, 3], np.int32)
    assert dict(zero_shot.evaluate(images, labels, AXES)) == {"top1": 0.75}


def test_what_is_not_a_number_is_never_right():
    images = np.full((2, 4), np.nan, np.float32)
    assert dict(zero_shot.evaluate(images, np.array([0, 1], np.int32), AXES))["top1"] == 0


def test_recall_of_two_images_a_caption():
    owners = np.array([0, 0, 1, 1])
    captions = AXES[:2]
    images = np.stack([AXES[0], AXES[1] + 0.1 * AXES[0], AXES[1], AXES[3] + 0.1 * AXES[1]])
    found = dict(retrieval.evaluate(images, captions, owners, k=(1, 2)))
    assert found == {
        "image_to_text_r1": 0.75,  # the second image looks like the other caption
        "image_to_text_r2": 1.0,
        "text_to_image_r1": 1.0,
        "text_to_image_r2": 1.0,
    }


def test_recall_equals_a_plain_ranking():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((30, 6)).astype(np.float32)
    captions = rng.standard_normal((10, 6)).astype(np.float32)
    owners = np.arange(30) % 10
    found = dict(retrieval.evaluate(images, captions, owners, k=(1, 3)))
    cosines = (images / np.linalg.norm(images, axis=1, keepdims=True)) @ (
        captions / np.linalg.norm(captions, axis=1, keepdims=True)
    ).T
    for k in (1, 3):
        near = np.argsort(-cosines, axis=1)[:, :k]
        assert found[f"image_to_text_r{k}"] == np.mean([o in n for o, n in zip(owners, near)])  # noqa: B905
        near = np.argsort(-cosines.T, axis=1)[:, :k]
        assert found[f"text_to_image_r{k}"] == np.mean([c in owners[n] for c, n in enumerate(near)])


def test_equal_embeddings_find_nothing():
    same = np.ones((4, 3), np.float32)
    found = dict(retrieval.evaluate(same, same, np.arange(4), k=(1,)))
    assert found == {"image_to_text_r1": 0.0, "text_to_image_r1": 0.0}
