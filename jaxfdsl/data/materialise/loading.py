"""The README that lies beside the files: what they are, and the lines that load them."""

from typing import Any

from jaxfdsl.data.materialise import tfds_layout

LINES = {
    "folder": {
        "PyTorch": """\
import torch, torchvision
data = torchvision.datasets.ImageFolder("DIR/train", transform=transform)
loader = torch.utils.data.DataLoader(data, 256, shuffle=True, num_workers=8)""",
        "datasets": """\
import datasets
data = datasets.load_dataset("imagefolder", data_files={"train": "DIR/train/**"}, split="train")
image, label = data[0]["image"], data[0]["label"]""",
    },
    "parquet": {
        "datasets": """\
import datasets
data = datasets.load_dataset("DIR", split="train")
image, label = data[0]["image"], data[0]["label"]""",
        "PyTorch": """\
import datasets, torch
data = datasets.load_dataset("DIR", split="train").with_transform(
    lambda rows: {"x": [transform(one) for one in rows["image"]], "y": rows["label"]})
loader = torch.utils.data.DataLoader(data, 256, shuffle=True, num_workers=8)""",
    },
    "webdataset": {
        "PyTorch": """\
import webdataset
data = webdataset.WebDataset("DIR/train-{000000..LAST}.tar", shardshuffle=100).shuffle(1000)
data = data.decode("pil").to_tuple("png", "cls").map_tuple(transform, int)""",
        "datasets": """\
import datasets
data = datasets.load_dataset("webdataset", data_files={"train": "DIR/*.tar"}, split="train")
image, label = data[0]["png"], data[0]["cls"]""",
    },
    "tfds": {
        "TFDS": """\
import tensorflow_datasets as tfds
data = tfds.builder("NAME", data_dir="DIR").as_data_source("train")
image, label = data[0]["image"], data[0]["label"]""",
        "PyTorch": """\
import torch, tensorflow_datasets as tfds
data = tfds.builder("NAME", data_dir="DIR").as_data_source("train")
loader = torch.utils.data.DataLoader(data, 256, shuffle=True, num_workers=8)""",
    },
    "arrayrecord": {
        "Grain": """\
import glob, grain; from tensorflow_datasets.proto import tf_example_pb2
data = grain.sources.ArrayRecordDataSource(sorted(glob.glob("DIR/train.array_record-*")))
fields = tf_example_pb2.Example.FromString(data[0]).features.feature""",
    },
}

_SCENES = {  # several labels an image: other columns
    "folder": {
        "PyTorch": """\
import csv, glob, PIL.Image
rows = [row for file in sorted(glob.glob("DIR/recipes/*")) for row in csv.DictReader(open(file))]
image, labels = PIL.Image.open("DIR/" + rows[0]["file_name"]), rows[0]["label"].split()""",
    },
    "webdataset": {
        "PyTorch": """\
import webdataset
data = webdataset.WebDataset("DIR/train-{000000..LAST}.tar", shardshuffle=100).shuffle(1000)
data = data.decode("pil").to_tuple("png", "json").map_tuple(transform, lambda it: it["label"])""",
    },
}


def lines(dataset: Any, to: str, shards: int) -> dict[str, str]:
    """Three lines for each library that loads what was written, by its name."""
    chosen = {**LINES, **_SCENES}[to] if dataset.scenes else LINES[to]
    filled = {"NAME": tfds_layout.name_of(dataset), "LAST": f"{shards - 1:06d}"}
    texts = {}
    for library, text in chosen.items():
        for word, value in filled.items():
            text = text.replace(word, value)
        if dataset.scenes:  # as many labels as an image has categories: they do not stack
            text = text.replace("num_workers=8)", "num_workers=8, collate_fn=list)")
        texts[library] = text
    return texts


def card(dataset: Any, to: str, command: str, shards: int) -> str:
    """The README of a folder."""
    loads = "\n\n".join(
        f"{library}:\n\n```python\n{text}\n```"
        for library, text in lines(dataset, to, shards).items()
    )
    more = ", and masks (0 background, category + 1 elsewhere)" if dataset.has_mask else ""
    return f"""---
pretty_name: {dataset.name}
---

# {dataset.name}

{len(dataset):,} images of {dataset.num_classes:,} categories, {dataset.size} pixels, drawn from
formulas by jaxfdsl: no photograph had a part in them. PNG, with labels and the recipe (category,
instance) of each image{more}.
`manifest.json` has the fingerprint of the set, and the sha256 of each file.

Written by `{command}`. With this folder as `DIR`:

{loads}
"""
