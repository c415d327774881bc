"""Two thousand files and command lines as no program wrote them, the same ones each time: each is
read, or refused in the project's own words; none runs anything or takes much memory."""

import contextlib
import io
import json
import os
import pathlib
import pickle
import re
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from absl import flags
from PIL import Image

from jaxfdsl import checkpoint, generators, main
from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.config import path as config_path
from jaxfdsl.data import class_list, sources
from jaxfdsl.export import command as export_command
from jaxfdsl.generators import catalog, categories, npz
from jaxfdsl.interop import weights
from jaxfdsl.run import provenance
from tests import reference_weights, torch_files
from tests.torch_files import Made

MOST = 256e6  # bytes that reading a file of some kilobytes may take
FRACTALDB = "0.1,0.2,-0.3,0.4,0.5,0.6,0.25\n0.11,0.21,-0.33,0.4,0.5,-0.6,0.75\n"
EXFRACTALDB = "".join(",".join([share] * 12) + ",0.5\n" for share in ("0.125", "-0.25"))
RCDB = (
    "Vertex,7\nLine_num,50\nPerlin_noise,1.5\nline_width,0.01\nCenter_rad,50\nOval_rate_x,1.1\n"
    "Oval_rate_y,1.5\nstart_pos_w,200\nstart_pos_h,210\n"
)
WORDS = (
    "nan", "inf", "-1", "1e999", "", "0", "9" * 400, "0x1f", "1_0", "١", "a", '"', "[", "{", "null",
    "true", "-0", "1e-400", "\0", "2147483648", "9223372036854775808", " ", "-Infinity", "[]",
)  # fmt: skip
VALUES = (
    None, True, -1, 0, 3, 0.5, float("inf"), float("nan"), 10**30, "", "formula", "accuracy", [],
    [1.0, 2.0], ["a"], [None, 1.0], {}, {"kind": "formula"}, {"a": {}},
)  # fmt: skip


class Outcome:
    """Counts what is read and what is refused, with sentences of at most two lines."""

    def __init__(self, refusal=ValueError):
        self.refusal, self.read, self.refused = refusal, 0, 0

    @contextlib.contextmanager
    def of(self, *names):
        try:
            yield
        except self.refusal as error:
            said = str(error)
            assert said and len(said.splitlines()) <= 2, said  # the second one: did you mean
            assert "MemoryError" not in said and "Unable to allocate" not in said, said
            assert not names or any(str(name) in said for name in names), said
            self.refused += 1
        else:
            self.read += 1


@contextlib.contextmanager
def memory_left(most: float):
    """As much address space as this process has, and no more than `most` bytes on top."""
    if sys.platform != "linux":
        yield
        return
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(used + most), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """Fails where a file makes Python unpickle, start something, or take memory."""
    called = []
    for module, name in ((os, "system"), (subprocess, "Popen"), (pickle, "load")):
        monkeypatch.setattr(module, name, lambda *args, **_: called.append(args))
    with memory_left(MOST):
        yield
    assert not called


def mutations(content: bytes, count: int, seed: int):
    """Copies with bytes changed, lost, brought in and repeated, mostly where headers are."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(content)
        for _ in range(random.integers(1, 4)):
            place = int(
                random.integers(min(len(data), 6000) if random.random() < 0.6 else len(data))
            )
            if random.random() < 0.3:  # an archive's table is at its end
                place = len(data) - 1 - place
            span = int(random.integers(1, 17))
            match random.integers(6):
                case 0 | 1:
                    data[place] = random.integers(256)
                case 2:
                    data[place : place + span] = b"" if len(data) > span else b"x"
                case 3:
                    data[place:place] = random.bytes(span)
                case 4:
                    data[place : place + 8] = [b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f"][span % 3]
                case 5:
                    data[place:place] = data[max(0, place - 9 * span) : place]
        yield bytes(data[: random.integers(len(data))] if random.random() < 0.1 else data)


def texts(text: str, count: int, seed: int):
    """Copies with words replaced by ones that are not meant, lost and repeated."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        changed = text
        for _ in range(random.integers(1, 3)):
            words = [m.span() for m in re.finditer(r"[^\s,:{}\[\]]+|[,:{}\[\]\n]", changed)]
            start, end = words[random.integers(len(words))] if words else (0, 0)
            word = str(random.choice([*WORDS, "", changed[start:end] * 3]))
            changed = changed[:start] + word + changed[end:]
        yield changed[: random.integers(len(text))] if random.random() < 0.05 else changed


def trees(tree: dict, count: int, seed: int):
    """Copies with values of other types, and fields lost, renamed and brought in."""

    def places(group, path=()):
        for key, value in group.items():
            yield (*path, key)
            yield from places(value, (*path, key)) if isinstance(value, dict) else ()

    random = np.random.default_rng(seed)
    for _ in range(count):
        changed = json.loads(json.dumps(tree))
        found = list(places(changed))
        *path, key = found[random.integers(len(found))]
        group = changed
        for step in path:
            group = group[step]
        value = VALUES[random.integers(len(VALUES))]
        if isinstance(group[key], float) and type(value) is int:
            value = float(value)  # an int is one in Python, and not for beartype in these tests
        match random.integers(8):
            case 0:
                del group[key]
            case 1:
                group[f"{key}x"] = group.pop(key)
            case 2:
                group["more"] = value
            case _:
                group[key] = value
        yield json.dumps(changed)


def vit_files(tmp_path) -> dict[str, bytes]:
    import safetensors.numpy

    cases = json.loads(reference_weights.FILE.read_text())["cases"]
    timm, big_vision = (reference_weights.state_of(cases[n]) for n in ("token", "big_vision"))
    evil = Made("posix", "system", (f"touch {tmp_path / 'ran'}",))
    safetensors.numpy.save_file(timm, tmp_path / "safetensors")
    np.savez(tmp_path / "a.npz", **big_vision, more=np.array([{}], object))
    np.savez_compressed(tmp_path / "b.npz", **big_vision)
    torch_files.save(tmp_path / "zip.pth", {"model": timm, "args": torch_files.namespace(a=1)})
    torch_files.save(tmp_path / "stream.pth", {"state_dict": timm}, zipped=False)
    torch_files.save(tmp_path / "evil.pth", {"state_dict": timm, "args": evil})
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    return {path.name: path.read_bytes() for path in files}


def test_weights(tmp_path):
    outcome, path = Outcome(), tmp_path / "mutated"
    counts = {"safetensors": 300, "zip.pth": 100, "stream.pth": 100, "evil.pth": 50}
    for seed, (name, content) in enumerate(sorted(vit_files(tmp_path).items())):
        for changed in mutations(content, counts.get(name, 75), seed):
            path.write_bytes(changed)
            with outcome.of(path):
                weights.load(path, num_heads=3)
    assert outcome.read > 30 and outcome.refused > 300
    assert not (tmp_path / "ran").exists()


def test_tables(tmp_path):
    outcome, path = Outcome(), tmp_path / "mutated.npz"
    for seed, family in enumerate(("fractaldb", "exfractaldb", "rcdb", "visualatom", "segrcdb")):
        numbers = np.arange(3)
        table = categories.from_numbers(catalog.FAMILIES[family](), numbers)
        categories.save(tmp_path / "table.npz", table)
        generators.load(family, table=tmp_path / "table.npz")
        for changed in mutations((tmp_path / "table.npz").read_bytes(), 50, seed):
            path.write_bytes(changed)
            with outcome.of(path):
                generators.load(family, table=path)
    assert outcome.read > 5 and outcome.refused > 100


def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", params=np.zeros(90_000_000, np.uint8))
    with pytest.raises(ValueError, match=r"its arrays take more than 0\.0 GB"):
        weights.load(tmp_path / "a.npz", num_heads=3)


def test_an_archive_that_hides_gigabytes_behind_a_small_array_is_refused(tmp_path):
    np.save(small := io.BytesIO(), np.zeros(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("params", bytes(1_000_000))  # what NumPy would give for "params"
        file.writestr("params.npy", small.getvalue())
    with (
        (tmp_path / "a.npz").open("rb") as raw,
        pytest.raises(ValueError, match="two arrays of one name"),
    ):
        npz.read(raw, lambda name: True, 1000)


@pytest.mark.parametrize(
    ("family", "text"),
    [("fractaldb", FRACTALDB), ("exfractaldb", EXFRACTALDB), ("rcdb", RCDB), ("segrcdb", RCDB)],
)
def test_published_category_files(tmp_path, family, text):
    outcome, path = Outcome(), tmp_path / "00001.csv"
    (tmp_path / "00000.csv").write_text(text)
    changes = [*mutations(text.encode(), 40, 1), *(t.encode() for t in texts(text, 50, 2))]
    for changed in changes:
        path.write_bytes(changed)
        with outcome.of(path, tmp_path):
            generators.load(family, table=tmp_path)
    assert outcome.read > 1 and outcome.refused > 50


def test_lists_and_parquet(tmp_path):
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    rows = {"image": [png.getvalue()] * 4, "label": [0, 1, 2, 1]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "whole.parquet")
    outcome = Outcome(ConfigError)
    for i, changed in enumerate(mutations((tmp_path / "whole.parquet").read_bytes(), 150, 1)):
        path = tmp_path / f"{i}.parquet"  # a new name each time, as open files are kept
        path.write_bytes(changed)
        entry = config_lib.parquet_source(str(path))
        with outcome.of(path):
            source = sources.build(entry, seed=0, train=False, field="data.sources.x")
            source.records.read(np.arange(len(source.records)))
    for changed in mutations(b"# classes\nn01\ttench\nn02\nn03 # x\n", 50, 2):
        (tmp_path / "classes").write_bytes(changed)
        with outcome.of(tmp_path):
            class_list.read_names(str(tmp_path / "classes"), "x")
    assert outcome.read > 20 and outcome.refused > 50


@pytest.mark.parametrize("recipe", ["demo", "vitb_exfractal"])
def test_config_files(tmp_path, recipe):
    outcome = Outcome(ConfigError)
    text = config_lib.to_json(config_path.load_config(f"configs/{recipe}.py"))
    changes = [*trees(json.loads(text), 150, 1), *texts(text, 40, 2)]
    changes += [bytes_.decode("utf8", "replace") for bytes_ in mutations(text.encode(), 40, 3)]
    for changed in changes:
        (tmp_path / "config.json").write_text(changed)
        with outcome.of():
            config_lib.validate(config_path.of_workdir(str(tmp_path)), num_devices=8)
    assert outcome.read > 10 and outcome.refused > 100


def test_command_lines():
    outcome, random = Outcome(ConfigError), np.random.default_rng(0)
    names = list(config_path.dotted(config_path.load_config("configs/demo.py")))
    for name in random.choice(names, 120):
        word = str(random.choice(WORDS))
        typed_wrong = random.random() < 0.2
        [typo] = mutations(name.encode(), 1, int(random.integers(2**31)))
        name = re.sub(r"\s", "_", typo.decode("utf8", "replace")) if typed_wrong else name
        argv = [f"--config.{name}={word}"] if random.random() < 0.9 else [f"--config.{name}", word]
        with outcome.of():
            config = main.parse(["main", *argv], flags.FlagValues()).config
            config_lib.validate(config, num_devices=8)
    assert outcome.read > 5 and outcome.refused > 50


def test_metadata_of_a_checkpoint(tmp_path):
    """Export refuses it, and a run that starts there records that its ancestors are unknown."""
    config = json.loads(config_lib.to_json(config_path.load_config("configs/demo.py")))
    text = json.dumps({"config": config, "data": {}, "total_steps": 2, "ancestors": []})
    place = tmp_path / "checkpoints" / "2"
    for folder in ("params", "meta"):
        (place / folder).mkdir(parents=True)
    outcome = Outcome()
    changes = [*texts(text, 10, 1), *trees(json.loads(text), 20, 2)]
    for changed in changes:
        (place / "meta" / "metadata").write_text(changed)
        with outcome.of(place):
            checkpoint.load_meta(place)
        kinds = {ancestor["kind"] for ancestor in provenance.ancestors(str(tmp_path))}
        assert kinds and kinds <= {"run", "unknown", "imported"}
        with pytest.raises(ConfigError, match="cannot be read"):  # it holds no weights, at least
            export_command.run(str(tmp_path), out=str(tmp_path / "out"))
    assert outcome.read > 2 and outcome.refused > 10
