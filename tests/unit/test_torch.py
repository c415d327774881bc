"""Drawn images in PyTorch: the same bytes in any process, and no image twice."""

import hashlib
import itertools
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from jaxfdsl import generators
from jaxfdsl.data import formula
from jaxfdsl.generators import categories

torch = pytest.importorskip("torch")

from jaxfdsl.torch import FormulaImages, FormulaStream, _target  # noqa: E402

SMALL = {"size": 32, "num_points": 500}


@pytest.mark.parametrize("name", ["fractaldb-1k", "exfractaldb-1k"])
def test_image_i_is_what_the_generator_draws(name):
    at = [0, 5, 1003, 999_999]
    drawn = generators.load(name, **SMALL).draw(at)
    images = FormulaImages(name, rgb=False, **SMALL)
    assert len(images) == 1_000_000 and images.num_classes == 1000
    for row, i in enumerate(at):
        picture, label = images[i]
        assert picture.mode == "L" and type(label) is int
        assert np.array_equal(np.asarray(picture)[..., None], drawn["image"][row])
        assert label == drawn["label"][row] == i % 1000


def test_a_grey_image_is_three_equal_channels_as_from_a_folder_of_pngs():
    grey = np.asarray(FormulaImages("fractaldb-1k", rgb=False, **SMALL)[7][0])
    picture = FormulaImages("fractaldb-1k", **SMALL)[7][0]
    tensor = FormulaImages("fractaldb-1k", output="tensor", **SMALL)[7][0]
    assert picture.mode == "RGB" and tensor.dtype == torch.uint8
    assert np.array_equal(np.asarray(picture), np.repeat(grey[..., None], 3, -1))
    assert np.array_equal(tensor.numpy(), np.repeat(grey[None], 3, 0))


def test_colour_comes_in_the_order_of_the_generator():
    options = {**SMALL, "color": "hue"}
    drawn = np.asarray(generators.load("fractaldb-1k", **options).draw([4])["image"][0])
    assert drawn.std(-1).max() > 0
    assert np.array_equal(np.asarray(FormulaImages("fractaldb-1k", **options)[4][0]), drawn)
    tensor = FormulaImages("fractaldb-1k", output="tensor", **options)[4][0]
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), drawn)


@pytest.mark.parametrize("count", [1, 15, 16, 35])
def test_a_batch_of_any_length_is_its_images_one_by_one(count):
    images = FormulaImages("exfractaldb-1k", output="tensor", **SMALL)
    indices = [(7919 * k) % len(images) for k in range(count)]
    batch = images.__getitems__(indices)
    assert [label for _, label in batch] == [i % 1000 for i in indices]
    for i in {0, count // 2, count - 1}:
        assert torch.equal(batch[i][0], images[indices[i]][0])


def test_transforms_get_the_image_and_the_target():
    def described(picture):
        return picture.size, picture.mode

    images = FormulaImages(
        "fractaldb-1k", transform=described, target_transform=lambda label: -label, **SMALL
    )
    assert images[1003] == (((32, 32), "RGB"), -3)


def test_scenes_give_their_labels_and_masks_as_int64():
    labels = np.array([4, 9, -1], np.int32)
    assert _target({"label": labels}).tolist() == [4, 9, -1]
    mask = np.full((3, 3), 254, np.uint8)
    target = _target({"label": labels, "mask": mask})
    assert target.dtype == torch.int64 and target.tolist() == mask.tolist()


def test_a_data_set_travels_as_its_name():
    images = FormulaImages("fractaldb-21k", **SMALL)
    images[0]
    travelled = pickle.dumps(images)
    assert len(travelled) < 500
    assert pickle.loads(travelled)[30_000] == images[30_000]


def test_categories_of_ones_own_travel_with_it(tmp_path):
    table = categories.first(generators.load("fractaldb-1k").categories, 3)
    file = tmp_path / "own.npz"
    categories.save(file, table)
    images = FormulaImages("fractaldb", table=file, instances=10, **SMALL)
    assert len(images) == 30
    travelled = pickle.dumps(images)
    file.unlink()
    assert pickle.loads(travelled)[29] == images[29]


def test_a_search_is_not_repeated_in_workers(tmp_path, monkeypatch):
    options = {"num_classes": 2, "search_seed": 5, "cache_dir": tmp_path}
    images = FormulaImages("exfractaldb", **options, **SMALL)
    monkeypatch.setattr("jaxfdsl.generators.catalog.search", None)
    assert pickle.loads(pickle.dumps(images))[3] == images[3]


def stream_of(**options) -> FormulaStream:
    """A stream that gives recipes instead of what they draw."""
    stream = FormulaStream("fractaldb-1k", **SMALL, **options)
    stream._samples = lambda recipes: [tuple(recipe) for recipe in recipes.tolist()]
    return stream


def take(stream, count):
    return list(itertools.islice(stream, count))


def test_an_endless_stream_repeats_nothing():
    seen = take(stream_of(batch_size=8, seed=1), 5000)
    assert len(set(seen)) == 5000
    rounds = [seen[k : k + 1000] for k in range(0, 5000, 1000)]
    assert all({category for category, _ in shown} == set(range(1000)) for shown in rounds)
    assert seen != take(stream_of(batch_size=8, seed=2), 5000)


def test_a_finite_stream_is_a_new_permutation_each_epoch():
    seen = take(stream_of(batch_size=8, instances=2), 4000)
    first, second = seen[:2000], seen[2000:]
    assert first != second
    assert sorted(first) == sorted(second) == [(c, i) for c in range(1000) for i in (0, 1)]


def test_a_stream_is_the_order_of_the_projects_own_training():
    source = formula.from_dataset(generators.load("fractaldb-1k", instances=None, **SMALL), seed=3)
    rows = source.rows(np.arange(100, 150))["recipe"].tolist()
    assert take(stream_of(batch_size=7, seed=3, start=100), 50) == [tuple(row) for row in rows]


def test_ranks_share_a_stream_without_overlap():
    alone = take(stream_of(batch_size=8), 96)
    ranks = [take(stream_of(batch_size=4, rank=r, world_size=2), 48) for r in (0, 1)]
    for step in range(12):  # two batches of 4 hold what one of 8 holds
        both = [image for rank in ranks for image in rank[4 * step : 4 * step + 4]]
        assert both == alone[8 * step : 8 * step + 8]


def test_a_stream_resumes_where_all_ranks_stopped():
    whole = [take(stream_of(batch_size=4, rank=r, world_size=2), 40) for r in (0, 1)]
    rest = [take(stream_of(batch_size=4, rank=r, world_size=2, start=24), 28) for r in (0, 1)]
    assert rest == [rank[12:] for rank in whole]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "fractldb-1k"}, "did you mean 'fractaldb-1k'"),
        ({"output": "png"}, "output='png': give 'pil' or 'tensor'"),
        ({"device": "cuda"}, "device='cuda': give 'cpu' or 'gpu' or 'tpu'"),
        ({"size": 8}, "size=8"),
    ],
)
def test_what_cannot_be_loaded_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        FormulaImages(**{"name": "fractaldb-1k", **options})


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 4, "start": -1},
        {"batch_size": 4, "rank": 1},
        {"batch_size": 4, "world_size": 2},
        {"batch_size": 4, "rank": 2, "world_size": 2},
    ],
)
def test_a_share_that_is_none_is_refused(options):
    with pytest.raises(ValueError, match="give"):
        FormulaStream("fractaldb-1k", **options)


def test_an_index_past_the_end_is_refused():
    images = FormulaImages("fractaldb-1k", instances=2, **SMALL)
    with pytest.raises(IndexError, match=r"0\.\.1999"):
        images[2000]


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(RuntimeError, match="device='tpu': JAX has none here"):
        FormulaImages("fractaldb-1k", device="tpu", **SMALL)[0]


# Processes are tried in programs of their own, as this one has started JAX. Each prints JSON.
PROGRAM = """
import hashlib, itertools, json, sys
import jax, torch
from jax._src import xla_bridge
from torch.utils.data import DataLoader
from jaxfdsl.torch import FormulaImages, FormulaStream

SMALL = {"size": 32, "num_points": 500, "output": "tensor"}
FEW = range(5, 29)

def collate(batch):
    images = torch.stack([image for image, _ in batch])
    digest = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    return digest, [label for _, label in batch], sorted(xla_bridge.backends())

def read(data, **how):
    batches = list(itertools.islice(DataLoader(data, 8, collate_fn=collate, **how), 3))
    return {"batches": [batch[:2] for batch in batches], "platforms": batches[0][2]}

def both(**how):
    images = FormulaImages("fractaldb-1k", **SMALL)
    stream = FormulaStream("fractaldb-1k", batch_size=8, seed=3, **SMALL)
    subset = torch.utils.data.Subset(images, FEW)
    return {"images": read(subset, **how), "stream": read(stream, **how)}
"""
ONE_PROCESS = """
if __name__ == "__main__":
    said = {"fork": both(num_workers=4, multiprocessing_context="fork")}
    said["started"] = xla_bridge.backends_are_initialized()
    said["alone"] = both()
    try:
        both(num_workers=1, multiprocessing_context="fork")
    except RuntimeError as error:
        said["refused"] = str(error)
    said["forkserver"] = both(num_workers=2, multiprocessing_context="forkserver")
    gpu = FormulaImages("fractaldb-1k", device="gpu", **SMALL)
    try:
        read(gpu, num_workers=1, multiprocessing_context="forkserver")
    except RuntimeError as error:
        said["gpu"] = str(error)
    print(json.dumps(said))
"""
WORKERS = """
if __name__ == "__main__":
    print(json.dumps(both(num_workers=1, multiprocessing_context="fork")))
"""
RANKS = """
def rank(number, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=number, world_size=2
    )
    stream = FormulaStream("fractaldb-1k", batch_size=4, seed=3, **SMALL)
    images = [  # spawned workers have no torch.distributed to ask
        (image.sum().item(), label)
        for context, workers in ((None, 0), ("spawn", 1))
        for images, labels in itertools.islice(
            DataLoader(stream, 4, num_workers=workers, multiprocessing_context=context), 3
        )
        for image, label in zip(images, labels.tolist())
    ]
    with open(f"{folder}/{number}.json", "w") as file:
        json.dump(images, file)
    torch.distributed.destroy_process_group()

if __name__ == "__main__":
    torch.multiprocessing.spawn(rank, (sys.argv[1],), nprocs=2)
    print(json.dumps([json.load(open(f"{sys.argv[1]}/{number}.json")) for number in (0, 1)]))
"""


def run(folder: pathlib.Path, program: str, platforms: str = ""):
    (folder / "program.py").write_text(PROGRAM + program)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": platforms}
    command = [sys.executable, "program.py", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def drawn():
    """Digests and labels of what any number of processes must give, drawn here."""
    images = FormulaImages("fractaldb-1k", output="tensor", **SMALL)
    stream = FormulaStream("fractaldb-1k", batch_size=8, seed=3, output="tensor", **SMALL)
    samples = {"images": images.__getitems__(range(5, 29)), "stream": take(stream, 24)}
    return {name: [digest(all24[k : k + 8]) for k in (0, 8, 16)] for name, all24 in samples.items()}


def digest(batch):
    images = torch.stack([image for image, _ in batch])
    return [hashlib.sha256(images.numpy().tobytes()).hexdigest(), [label for _, label in batch]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_any_number_of_workers_gives_the_same_batches(drawn, tmp_path):
    said = run(tmp_path, ONE_PROCESS)
    assert not said["started"]  # so that workers could be forked
    for how in ("alone", "fork", "forkserver"):
        assert {kind: read["batches"] for kind, read in said[how].items()} == drawn
        assert {tuple(read["platforms"]) for read in said[how].values()} == {("cpu",)}
    assert 'multiprocessing_context="forkserver"' in said["refused"]
    assert "num_workers=0" in said["gpu"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_workers_draw_on_the_cpu_whatever_the_platform_of_the_parent(drawn, tmp_path):
    said = run(tmp_path, WORKERS, platforms="cuda")
    for kind, read in said.items():
        assert read == {"batches": drawn[kind], "platforms": ["cpu"]}


def test_two_ranks_see_the_batches_of_one(tmp_path):
    ranks = run(tmp_path, RANKS)
    stream = FormulaStream("fractaldb-1k", batch_size=8, seed=3, output="tensor", **SMALL)
    alone = [[image.sum().item(), label] for image, label in take(stream, 24)]
    for start in (0, 12):  # without workers, then with one
        steps = range(start, start + 12, 4)
        both = [image for k in steps for rank in ranks for image in rank[k : k + 4]]
        assert both == alone
