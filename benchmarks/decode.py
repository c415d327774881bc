"""Images/s a core from JPEGs to what a batch holds, beside PyTorch-style Pillow pipelines.

    python benchmarks/decode.py --data_dir ../shared/data/tfds

Takes the JPEGs of a prepared ImageNet (all of a small one, at most --images) and one random box
each, the same for every way. A way's time is the least CPU time of all threads over --rounds
alternating rounds, so that other programs disturb it little. `difference` is the mean over
pixels of |way - PyTorch's way|, of 255. The baseline is what torchvision's transforms do on PIL
images: decode, crop, antialiased resize. OpenCV and torchvision are columns where they are
installed. `rows` is all of the host's work: reading array_record, labels, decoding, crops.
"""

import argparse
import io
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from jaxfdsl import config
from jaxfdsl.data import decode, picture, sources
from jaxfdsl.data.decode import View

try:
    import cv2

    cv2.setNumThreads(1)
except ImportError:
    cv2 = None
try:
    import torch
    import torchvision

    torch.set_num_threads(1)
except ImportError:
    torchvision = None

FILTER = Image.Resampling.BICUBIC


class Sample:
    """A JPEG, the numbers that draw its box, and the box."""

    def __init__(self, data: bytes, draws: np.ndarray, view: View):
        self.data, self.draws, self.view = data, draws, view
        self.size = Image.open(io.BytesIO(data)).size
        left, top, width, height = decode.random_box(*self.size, view, draws)
        self.box = (left, top, left + width, top + height)
        self.factor = 1
        while self.factor < 8 and min(width, height) >= 2 * self.factor * view.size:
            self.factor *= 2


def pillow(sample: Sample) -> Image.Image:
    with Image.open(io.BytesIO(sample.data)) as opened:
        return opened.convert("RGB")


def pillow_draft(sample: Sample) -> np.ndarray:
    with Image.open(io.BytesIO(sample.data)) as opened:
        width, height = opened.size
        opened.draft(None, (width // sample.factor, height // sample.factor))
        image = opened.convert("RGB")
    scale = (image.width / width, image.height / height) * 2
    box = tuple(a * b for a, b in zip(sample.box, scale, strict=True))
    return np.asarray(image.resize((sample.view.size,) * 2, FILTER, box=box))


def pytorch_crop(sample: Sample) -> np.ndarray:
    return np.asarray(pillow(sample).crop(sample.box).resize((sample.view.size,) * 2, FILTER))


def pytorch_centre(sample: Sample) -> np.ndarray:
    image, size = pillow(sample), sample.view.size
    short = int(size / sample.view.fraction)
    scaled = tuple(int(short * side / min(image.size)) for side in image.size)
    image = image.resize(scaled, FILTER)
    left, top = (round((side - size) / 2.0) for side in scaled)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def simplejpeg_pillow(sample: Sample) -> np.ndarray:
    left, top, right, bottom = sample.box
    cut = picture.simplejpeg.decode_jpeg(sample.data)[top:bottom, left:right]
    return np.asarray(Image.fromarray(cut).resize((sample.view.size,) * 2, FILTER))


def opencv(sample: Sample) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(sample.data, np.uint8), 1), cv2.COLOR_BGR2RGB)


def opencv_crop(sample: Sample) -> np.ndarray:
    left, top, right, bottom = sample.box
    image = cv2.imdecode(np.frombuffer(sample.data, np.uint8), 1)[top:bottom, left:right]
    smaller = min(image.shape[:2]) > sample.view.size
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.cvtColor(cv2.resize(image, (sample.view.size,) * 2, interpolation=how), 4)


def torchvision_pil(sample: Sample) -> np.ndarray:
    """What a DataLoader's worker hands over: torchvision's transforms on PIL, then a tensor."""
    left, top, right, bottom = sample.box
    functional = torchvision.transforms.functional
    bicubic = torchvision.transforms.InterpolationMode.BICUBIC
    sides = (bottom - top, right - left, [sample.view.size] * 2)
    cut = functional.resized_crop(pillow(sample), top, left, *sides, bicubic)
    tensor = functional.normalize(functional.to_tensor(cut), [0.5] * 3, [0.5] * 3)
    return (127.5 * (tensor + 1)).round().permute(1, 2, 0).numpy()


def ways() -> dict[str, list[tuple[str, Callable[[Sample], Any]]]]:
    """By table part: names and functions; the first is the baseline."""
    full: list[tuple[str, Callable[[Sample], Any]]] = [("Pillow", lambda s: np.asarray(pillow(s)))]
    crop: list[tuple[str, Callable[[Sample], Any]]] = [
        ("PyTorch style: Pillow, crop, resize", pytorch_crop),
        ("Pillow, scaled decoding", pillow_draft),
    ]
    if cv2:
        full.append(("OpenCV", opencv))
        crop.append(("OpenCV, box or cubic filter", opencv_crop))
    if torchvision:
        crop.append(("torchvision on PIL, normalised tensor", torchvision_pil))
    if picture.simplejpeg:
        full.append(("simplejpeg", lambda s: picture.simplejpeg.decode_jpeg(s.data)))
        crop.append(("simplejpeg, Pillow resize", simplejpeg_pillow))
    crop.append(("jaxfdsl", lambda s: decode.random_crop(s.data, s.view, s.draws)))
    centre = [
        ("PyTorch style: Pillow, resize, centre", pytorch_centre),
        ("jaxfdsl", lambda s: decode.centre_crop(s.data, s.view)),
    ]
    return {"full decode": full, "training crop": crop, "evaluation crop": centre}


def measure(samples: list[Sample], rounds: int) -> list[dict[str, Any]]:
    """One row a way."""
    table = []
    for part, entries in ways().items():
        best = dict.fromkeys([name for name, _ in entries], float("inf"))
        for _ in range(rounds):
            for name, function in entries:
                start = time.process_time()
                for sample in samples:
                    function(sample)
                best[name] = min(best[name], time.process_time() - start)
        base = entries[0]
        for name, function in entries:
            apart = [
                np.abs(np.asarray(function(s)).astype(int) - base[1](s)).mean() for s in samples
            ]
            rate = len(samples) / best[name]
            ratio = best[base[0]] / best[name]
            row = {
                "part": part,
                "way": name,
                "images/s/core": round(rate),
                "ratio": round(ratio, 2),
            }
            table.append({**row, "difference": round(float(np.mean(apart)), 3)})
    return table


def rows_rate(data_dir: str, view: View, rounds: int) -> float:
    """Images/s/core of a source's `rows`, everything that the host does."""
    decode.use_one_thread()
    entry = config.tfds_source("imagenet2012", data_dir=data_dir, split="train")
    source = sources.build(entry, seed=0, train=True, view=view)
    positions = np.arange(min(source.num_examples, 256))
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        source.rows(positions)
        best = min(best, time.process_time() - start)
    return len(positions) / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", default="", help="a folder of prepared TFDS data sets")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="a file to write the table to")
    args = parser.parse_args()
    view = View(args.size, "random_resized", fraction=0.875)
    jpegs = []
    for split in ("train", "validation"):
        entry = config.tfds_source("imagenet2012", data_dir=args.data_dir, split=split)
        source = sources.build(entry, seed=0, train=False)
        rows = np.arange(min(len(source.records), args.images - len(jpegs)))
        jpegs += source.records.read(rows)[0]
    draws = decode.box_draws(0, np.arange(len(jpegs)), np.arange(len(jpegs)))
    samples = [Sample(data, one, view) for data, one in zip(jpegs, draws, strict=True)]
    table = measure(samples, args.rounds)
    table.append(
        {
            "part": "rows, with reading",
            "way": "jaxfdsl",
            "images/s/core": round(rows_rate(args.data_dir, view, args.rounds)),
        }
    )
    print("| part | way | images/s/core | ratio | difference |\n|---|---|---|---|---|")
    for row in table:
        print("|", " | ".join(str(row.get(key, "")) for key in table[0]), "|")
    scaled = [sample for sample in samples if sample.factor > 1]
    apart = [
        np.abs(decode.random_crop(s.data, view, s.draws).astype(int) - pytorch_crop(s)).mean()
        for s in scaled
    ]
    mean = float(np.mean(apart)) if apart else 0.0
    print(
        f"\n{len(samples)} JPEGs, {np.mean([len(s.data) for s in samples]) / 1e3:.0f} kB and "
        f"{np.mean([s.size for s in samples], 0).round()} pixels on average; {len(scaled)} boxes "
        f"decoded at a fraction, difference {mean:.2f}. simplejpeg "
        f"{bool(picture.simplejpeg)}, cykooz.resizer {bool(picture.cykooz_resizer)}."
    )
    if args.json:
        result = {"table": table, "scaled": len(scaled), "scaled_difference": mean}
        pathlib.Path(args.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
