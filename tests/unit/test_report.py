"""Metric files, TensorBoard events, the status line and the pictures of a run."""

import dataclasses
import io
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxfdsl.data.formula import from_dataset
from jaxfdsl.report import curves, gallery, status, tensorboard, writers


def lines_of(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


def test_a_resumed_run_leaves_the_file_of_an_unbroken_one(tmp_path):
    def write(folder, steps, restored_step=0):
        writer = writers.MetricsWriter(folder, tensorboard=False, restored_step=restored_step)
        for step in steps:
            writer.write(step, {"train/loss": 1 / step, "train/top1": step / 30})
        writer.close()

    write(tmp_path / "whole", [5, 10, 15, 20])
    write(tmp_path / "cut", [5, 10, 15])
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "train/lo')  # killed while it wrote
    write(tmp_path / "cut", [15, 20], restored_step=10)
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole")
    assert json.loads(lines_of(tmp_path / "cut")[1]) == {
        "step": 10,
        "train/loss": 0.1,
        "train/top1": 10 / 30,
    }


def test_a_value_that_is_not_finite_is_null_in_json(tmp_path):
    writer = writers.MetricsWriter(tmp_path, tensorboard=False)
    writer.write(1, {"a": float("nan"), "b": float("inf"), "c": jnp.float32(0.5)})
    writer.close()
    assert lines_of(tmp_path) == ['{"step": 1, "a": null, "b": null, "c": 0.5}']


def test_the_checksum_is_crc32c():
    assert tensorboard.crc32c(b"123456789") == 0xE3069283  # the check value of RFC 3720


def events_in(folder):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )
    events = accumulator.EventAccumulator(str(folder))
    return events.Reload()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensorboard_reads_scalars_images_and_text(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 300, 3), np.uint8)
    writer = writers.MetricsWriter(tmp_path)
    writer.write(10, {"train/loss": 2.5, "held_out/top1": 0.25})
    writer.write(20, {"train/loss": -1.25})
    writer.image(20, "gallery", pixels)
    writer.text(0, "config", "**seed** 0")
    writer.close()
    events = events_in(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(10, 2.5), (20, -1.25)]
    assert [(e.step, e.value) for e in events.Scalars("held_out/top1")] == [(10, 0.25)]
    (image,) = events.Images("gallery")
    assert (image.width, image.height, image.step) == (300, 7, 20)
    shown = Image.open(io.BytesIO(image.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(shown), pixels)
    (text,) = events.Tensors("config")
    assert text.tensor_proto.string_val == [b"**seed** 0"]
    assert "tensorflow" not in sys.modules


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensorboard_forgets_the_steps_that_a_resumed_run_repeats(tmp_path):
    for restored, steps in ((0, (10, 20, 30)), (10, (20, 25))):
        writer = writers.MetricsWriter(tmp_path, restored_step=restored)
        for step in steps:
            writer.write(step, {"loss": restored + step})
        writer.close()
    assert [(e.step, e.value) for e in events_in(tmp_path).Scalars("loss")] == [
        (10, 10),
        (20, 30),
        (25, 35),
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream):
    times = iter([0.0, 100.0, 160.0])
    live = status.Status(4000, stream=stream, clock=lambda: next(times))
    live.update(1000, {"loss": 2.3456789, "img/s": None})
    live.update(2000, {"loss": 1.5, "img/s": 4812.4})
    live.update(4000, {"loss": 1.25, "img/s": 4900.0})
    live.close()
    return stream.getvalue()


def test_a_file_gets_plain_lines_with_the_time_left():
    assert shown(io.StringIO()).splitlines() == [
        "step 1000/4000 25%  loss 2.346",
        "step 2000/4000 50%  loss 1.5  4,812 img/s  eta 3m 20s",
        "step 4000/4000 100%  loss 1.25  4,900 img/s",
    ]


def test_a_terminal_gets_one_line_that_renews_itself():
    text = shown(Terminal())
    assert text.count("\n") == 1 and text.endswith("img/s\n")
    assert text.count("\r\x1b[K") == 3


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(42, "42s"), (600, "10m 00s"), (3 * 3600 + 59, "3h 00m"), (200_000, "2d 7h")],
)
def test_durations_are_short(seconds, words):
    assert status.duration(seconds) == words


@dataclasses.dataclass(frozen=True)
class Shades:
    """Two categories, red and blue, three instances each, brighter and brighter."""

    name: str = "shades"
    num_classes: int = 2
    num_recipes: int = 2
    scenes: bool = False
    has_mask: bool = False
    instances: int = 3
    size: int = 8
    channels: int = 3
    table: dict = dataclasses.field(default_factory=dict)

    def fields(self, recipes, table):
        value = 80 * (recipes[:, 1] + 1)
        red, blue = value * (recipes[:, 0] == 0), value * (recipes[:, 0] == 1)
        pixel = jnp.stack([red, 0 * red, blue], axis=1).astype(jnp.uint8)
        image = jnp.broadcast_to(pixel[:, None, None], (len(recipes), 8, 8, 3))
        return {"image": image, "label": recipes[:, 0].astype(jnp.int32)}


def test_rows_of_the_gallery_are_categories_and_columns_instances(tmp_path):
    picture = gallery.write(tmp_path / "gallery.png", from_dataset(Shades()), columns=4)
    with Image.open(tmp_path / "gallery.png") as written:
        np.testing.assert_array_equal(np.asarray(written), picture)
    centres = picture[gallery.TOP + 48 :: 99, gallery.LEFT + 48 :: 99]
    assert centres.shape == (2, 4, 3)
    np.testing.assert_array_equal(centres[0, :3], [[80, 0, 0], [160, 0, 0], [240, 0, 0]])
    np.testing.assert_array_equal(centres[1, :3], [[0, 0, 80], [0, 0, 160], [0, 0, 240]])
    assert len(np.unique(centres[:, 3])) == 1  # there is no fourth instance


def test_curves_show_every_run_with_its_last_value(tmp_path):
    writer = writers.MetricsWriter(tmp_path, tensorboard=False)
    for step in range(1, 301):
        writer.write(step, {"train/loss": 1 / step, "train/learning_rate": 1e-3})
    writer.write(150, {"train/loss": float("nan")})
    writer.write(300, {"held_out/top1": 0.5, "held_out/top5": 0.9, "held_out/loss": 0.7})
    writer.close()
    series = curves.collect(writers.read(tmp_path))
    assert len(series["train/loss"]) == 300
    loss, accuracy, rate = curves.draw(series).axes
    texts = [[text.get_text() for text in a.get_legend().get_texts()] for a in (loss, accuracy)]
    assert texts == [
        ["train: 0.00333", "held_out: 0.7"],
        ["held_out top-1: 50.0%", "held_out top-5: 90.0%"],
    ]
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), np.full(300, 1e-3))
    curves.write(tmp_path)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1800, 630)
