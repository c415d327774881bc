"""Decoding: what PyTorch's loaders would show, whatever the file."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from jaxfdsl import config
from jaxfdsl.data import decode, picture, sources
from jaxfdsl.data.decode import View
from tests.photographs import encoded, photograph

SIZES = [(40, 30), (30, 40), (33, 33), (97, 21), (20, 90)]


@pytest.fixture(params=["fast", "Pillow alone"])
def decoders(request, monkeypatch):
    """Both with what is installed and with Pillow alone."""
    if request.param == "Pillow alone":
        monkeypatch.setattr(picture, "simplejpeg", None)
        monkeypatch.setattr(picture, "cykooz_resizer", None)


def torchvision_centre(data: bytes, size: int, fraction: float) -> np.ndarray:
    """Resize(int(size / fraction), bicubic) and CenterCrop(size), as torchvision computes sizes."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    (width, height), short = image.size, int(size / fraction)
    if width <= height:
        scaled = (short, int(short * height / width))
    else:
        scaled = (int(short * width / height), short)
    image = image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = round((scaled[0] - size) / 2.0), round((scaled[1] - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("fraction", [1.0, 0.875])
@pytest.mark.parametrize("size", SIZES)
def test_an_evaluation_crop_is_torchvisions_to_the_bit(decoders, size, fraction):
    data = encoded(photograph(1, *size))
    found = decode.centre_crop(data, View(16, fraction=fraction))
    np.testing.assert_array_equal(found, torchvision_centre(data, 16, fraction))


def test_imagenet_is_seen_as_torchvision_sees_it(tfds_dir):
    entry = config.tfds_source("imagenet2012", data_dir=tfds_dir, split="validation")
    source = sources.build(entry, seed=0, train=False, view=View(96, fraction=0.875))
    rows = source.rows(np.arange(6))
    for image, data in zip(rows["image"], source.records.read(np.arange(6))[0], strict=True):
        np.testing.assert_array_equal(image, torchvision_centre(data, 96, 0.875))


def test_random_boxes_follow_the_published_law():
    view = View(224, "random_resized", scale=(0.08, 1.0), ratio=(0.75, 4 / 3))
    draws = decode.box_draws(3, np.arange(4000), np.arange(4000))
    boxes = np.array([decode.random_box(500, 400, view, one) for one in draws])
    left, top, width, height = boxes.T
    assert (left >= 0).all() and (top >= 0).all()
    assert (left + width).max() == 500 and (top + height).max() == 400
    area, ratio = width * height / 200_000, width / height
    assert 0.075 < area.min() < 0.09 and 0.9 < area.max() <= 1
    # Uniform up to .6, where no box is ever too wide or too high for a picture of 5:4.
    inside = area[area < 0.6]
    assert abs(np.mean(inside) - 0.34) < 0.01
    narrow = ratio[area < 0.6]
    assert abs(np.log(narrow).mean()) < 0.01
    assert abs(np.log(narrow).std() - 2 * math.log(4 / 3) / math.sqrt(12)) < 0.01


def test_a_box_that_never_fits_falls_back_to_the_centre():
    view = View(8, "random_resized", scale=(0.9, 1.0))
    draws = decode.box_draws(0, np.arange(1), np.arange(1))[0]
    assert decode.random_box(100, 20, view, draws) == ((100 - 27) // 2, 0, 27, 20)
    assert decode.random_box(20, 100, view, draws) == (0, (100 - 27) // 2, 20, 27)


def test_a_training_crop_is_the_box_resized_by_pillow(monkeypatch):
    monkeypatch.setattr(picture, "cykooz_resizer", None)
    view = View(16, "random_resized")
    for seed, size in enumerate(SIZES):
        image = photograph(seed, *size)
        draws = decode.box_draws(seed, np.arange(1), np.arange(1))[0]
        left, top, width, height = decode.random_box(*size, view, draws)
        cut = image.crop((left, top, left + width, top + height))
        expected = np.asarray(cut.resize((16, 16), Image.Resampling.BICUBIC))
        found = decode.random_crop(encoded(image, "PNG"), view, draws)
        np.testing.assert_array_equal(found, expected)


def test_the_fast_resizer_has_pillows_filter():
    pytest.importorskip("cykooz_resizer")
    pixels = np.asarray(photograph(5, 90, 70))
    for interpolation, filter_ in picture.RESAMPLING.items():
        found = picture.resize(pixels, (10.0, 5.0, 80.0, 65.0), 24, interpolation).astype(int)
        cut = Image.fromarray(pixels[5:65, 10:80]).resize((24, 24), filter_)
        assert np.abs(found - np.asarray(cut)).max() <= 1


def test_large_boxes_are_decoded_at_a_fraction_and_look_alike(decoders):
    data = encoded(photograph(2, 320, 240), quality=95)
    assert picture.Picture(data).load(4).shape == (60, 80, 3)
    # A box of at least 64 pixels may be decoded at a quarter for 16.
    view = View(16, "random_resized", scale=(0.5, 1.0))
    draws = decode.box_draws(0, np.arange(8), np.arange(8))
    for one in draws:
        left, top, width, height = decode.random_box(320, 240, view, one)
        span = tuple(map(float, (left, top, left + width, top + height)))
        full = picture.resize(picture.Picture(data).load(), span, 16, "bicubic").astype(int)
        assert np.abs(decode.random_crop(data, view, one) - full).mean() < 1


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_simplejpeg_and_pillow_decode_to_the_same_bytes(factor, monkeypatch):
    pytest.importorskip("simplejpeg")
    for seed, size in enumerate(SIZES):
        for image in (photograph(seed, *size), photograph(seed, *size).convert("L")):
            data = (
                encoded(image, quality=80, subsampling=seed % 3)
                if image.mode == "RGB"
                else (encoded(image, quality=80))
            )
            fast = picture.Picture(data).load(factor)
            with monkeypatch.context() as patch:
                patch.setattr(picture, "simplejpeg", None)
                np.testing.assert_array_equal(picture.Picture(data).load(factor), fast)


def _palette(image: Image.Image) -> bytes:
    return encoded(image.quantize(16), "PNG", transparency=b"\x00" * 16)


ODD = {
    "CMYK JPEG": lambda image: encoded(image.convert("CMYK")),
    "gray JPEG": lambda image: encoded(image.convert("L")),
    "progressive JPEG": lambda image: encoded(image, progressive=True),
    "palette PNG": _palette,
    "gray PNG with alpha": lambda image: encoded(image.convert("LA"), "PNG"),
    "1-bit PNG": lambda image: encoded(image.convert("1"), "PNG"),
    # Pillow cuts 16 bits off at 255, and PyTorch's loaders with it.
    "16-bit PNG": lambda image: encoded(Image.fromarray(_deep(image)), "PNG"),
    "BMP": lambda image: encoded(image, "BMP"),
    "WebP": lambda image: encoded(image, "WEBP", lossless=True),
    "turned by EXIF": lambda image: encoded(image, exif=_turned()),
}


def _deep(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")).astype(np.uint16) * 2


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("kind", ODD)
def test_every_mode_becomes_rgb_as_in_pytorchs_loaders(decoders, kind):
    data = ODD[kind](photograph(7))
    with Image.open(io.BytesIO(data)) as opened:
        opened.info.pop("transparency", None)
        expected = np.asarray(opened.convert("RGB"))
    assert expected.shape == (30, 40, 3)
    np.testing.assert_array_equal(picture.Picture(data).load(), expected)


def test_broken_files_are_black_and_count_nothing(decoders):
    good = encoded(photograph(3))
    png = encoded(photograph(3), "PNG")
    files = [good, good[: len(good) // 2], good[:-40], png[:-40], b"no picture", b"", None, good]
    images, valid = decode.decode_all(files, lambda _, data: decode.canvas(data, 8), 8)
    np.testing.assert_array_equal(valid, [1, 0, 0, 0, 0, 0, 0, 1])
    assert not images[1:7].any()
    np.testing.assert_array_equal(images[0], images[7])
    assert images[0].any()
