"""The copies of a run's metrics, TensorBoard's and wandb's, and what a run notes of itself."""

import json
import sys
import types

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxfdsl import load_config
from jaxfdsl.config import ConfigError, default_config, to_json
from jaxfdsl.costs import flops
from jaxfdsl.models import vit
from jaxfdsl.report import run_file, weights_and_biases, writers
from jaxfdsl.run import logbook

FAKE = """
class Run:
    def __init__(self, **given):
        self.given, self.step, self.logged, self.ended = given, 0, [], None
    def log(self, values, step):
        assert step >= self.step, "wandb drops it, with a warning"
        self.step = step
        self.logged.append((step, values))
    def finish(self, exit_code):
        self.ended = exit_code
class Image:
    def __init__(self, pixels):
        self.shape = pixels.shape
class errors:
    class Error(Exception):
        pass
runs = []
refuses = ""
def init(**given):
    if refuses:
        raise errors.Error(refuses)
    runs.append(Run(**given))
    runs[-1].step = max([run.step + 1 for run in runs[:-1] if run.ended is not None], default=0)
    return runs[-1]
"""


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """A module of that name which remembers what it is told."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "wandb.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield __import__("wandb")
    sys.modules.pop("wandb", None)


def config_with(**report):
    config = default_config()
    config.log_every = 1
    config.report.update(tensorboard=False, status=False, **report)
    return config


def book_of(config, folder, start=0):
    return logbook.Logbook(config, epath.Path(folder), start=start, total=9)


def metrics(loss):
    return {"loss": np.float32(loss), "learning_rate": np.float32(1), "grad_norm": np.float32(1)}


def test_wandb_gets_config_gallery_and_scalars_and_a_resumed_run_its_page(tmp_path, wandb):
    config, folder = config_with(wandb="project"), tmp_path / "run"
    folder.mkdir()
    Image.new("RGB", (5, 3), "red").save(folder / "gallery.png")
    book = book_of(config, folder)
    for step in (1, 2, 3):
        book.write(step, {"held_out/top1": step / 10, "held_out/loss": float("nan")})
    book.close()
    book = book_of(config, folder, start=1)  # what came after its last checkpoint is done again
    for step in (2, 3, 4):
        book.write(step, {"held_out/top1": step / 10})
    book.close()
    first, second = wandb.runs
    assert first.given["id"] == second.given["id"] and second.given["resume"] == "allow"
    assert (first.given["project"], first.given["name"]) == ("project", "run")
    assert first.given["config"] == json.loads(to_json(config))
    assert first.logged[0][0] == 0 and first.logged[0][1]["gallery"].shape == (3, 5, 3)
    scores = [(s, v["held_out/top1"]) for s, v in first.logged if "held_out/top1" in v]
    assert scores == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert second.logged == [(4, {"held_out/top1": 0.4})]  # what the page has is not sent again
    assert (first.ended, second.ended) == (0, 0)
    lines = writers.read(folder)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_a_run_that_fails_ends_as_failed(tmp_path, wandb):
    book = book_of(config_with(wandb="project"), tmp_path)
    with pytest.raises(RuntimeError):
        try:
            raise RuntimeError("no luck")
        finally:
            book.close()
    assert wandb.runs[0].ended == 1


def test_only_the_first_process_writes(tmp_path, wandb, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    book = book_of(config_with(wandb="project"), tmp_path)
    book.write(1, {"a": 1.0})
    book.close()
    assert not wandb.runs and not list(tmp_path.glob("*.json*"))


def test_without_a_project_wandb_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import of it would raise
    book_of(config_with(), tmp_path).close()


def test_a_missing_package_is_told_before_anything_else(tmp_path, monkeypatch):
    config = config_with(wandb="project")
    for spec in (None, types.SimpleNamespace(origin=None)):  # a folder of that name is no package
        monkeypatch.setattr(weights_and_biases.importlib.util, "find_spec", lambda name, s=spec: s)
        with pytest.raises(ConfigError) as caught:
            weights_and_biases.check(config)
        assert 'pip install "jaxfdsl[wandb]"' in str(caught.value)
        weights_and_biases.check(config_with())


def test_what_wandb_refuses_is_a_sentence(tmp_path, wandb):
    wandb.refuses = "No API key configured.\nUse `wandb login`"
    with pytest.raises(ConfigError, match=r"No API key configured\. Use .* WANDB_MODE=offline"):
        book_of(config_with(wandb="project"), tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensorboard_shows_config_and_gallery(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )
    Image.new("RGB", (5, 3), "red").save(tmp_path / "gallery.png")
    config = config_with()
    config.report.tensorboard = True
    book_of(config, tmp_path).close()
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    (image,) = events.Images("gallery")
    assert (image.width, image.height) == (5, 3)
    (text,) = events.Tensors("config")
    assert to_json(config) in text.tensor_proto.string_val[0].decode()


def test_a_run_notes_every_start(tmp_path):
    device = types.SimpleNamespace(device_kind="H200")
    model = vit.build(load_config("demo.py").model, {"head": 64}, np.float32)
    parts = types.SimpleNamespace(
        mesh=types.SimpleNamespace(size=2, devices=np.array([device, device])),
        total_steps=7,
        state={"params": {"a": jax.ShapeDtypeStruct((3, 5), np.float32)}},
        model=model,
    )
    path = epath.Path(tmp_path) / run_file.NAME
    for step, broken in ((0, ""), (3, ""), (5, "{")):
        if broken:
            path.write_text(broken)
        run_file.write(parts, epath.Path(tmp_path), step)
        facts = json.loads(path.read_text())
        assert (facts["total_steps"], facts["parameters"]) == (7, 15)
        assert facts["flop_per_image"] == flops.training(model.design)
        steps = [start["step"] for start in facts["starts"]]
        assert steps == ([5] if broken else [0, 3][: len(steps)])
        assert facts["starts"][-1]["devices"] == "2 x H200"
