"""Rows, sets, sizes and recipes of `closed_set`, and the order in which they are made."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from jaxfdsl import config as c

OWN, OTHER = "own", "other"  # the encoder that conditions and the one that only judges
ENCODERS = {OWN: 0, OTHER: 1000}  # their seeds
CLUSTERS = "own-clusters"
CONDITIONS = {  # of each denoiser; repdiff_cifar10 has them under the same names
    "label": "label", "cluster": f"cluster:{CLUSTERS}", "rep": f"rep:{OWN}",
    "rep+label": f"rep:{OWN}+label",
}  # fmt: skip


class Made(NamedTuple):
    """A set: the denoiser, whose recipes, how many times A's size, guidance."""

    denoiser: str
    recipes: str = "a"  # or "b", "mixed"
    times: int = 1
    guidance: float = 1.0


SETS = {
    "class": Made("label", times=3),
    "rep": Made("rep", times=3),
    "cluster": Made("cluster"),
    "rep+label": Made("rep+label"),
    "rep-new": Made("rep", "b"),
    "rep-mixed": Made("rep", "mixed"),
    "class-w1.5": Made("label", guidance=1.5),
    "class-w2": Made("label", guidance=2.0),
    "rep-w1.5": Made("rep", guidance=1.5),
}


class Row(NamedTuple):
    """What a classifier is trained on: a set, which of its images, A, or A and a set."""

    made: str = ""
    listed: str = ""
    real: bool = False
    plain: bool = False


ROWS = {
    "real": Row(real=True),
    "class-1x": Row("class", "1x"),
    "rep-1x": Row("rep", "1x"),
    "class-3x": Row("class"),
    "rep-3x": Row("rep"),
    "real+class": Row("class", "1x", real=True),
    "real+rep": Row("rep", "1x", real=True),
    "real-plain": Row(real=True, plain=True),
    "real+rep-plain": Row("rep", "1x", real=True, plain=True),
    "rep-best": Row("rep", "best"),
    "rep-either": Row("rep", "either"),
    "rep-agreeing": Row("rep", "agreeing"),
    "rep-random": Row("rep", "random"),
    "class-2x": Row("class", "2x"),
    "rep-2x": Row("rep", "2x"),
    **{name: Row(name) for name in SETS if name not in ("class", "rep")},
}
FILTERS = ("best", "either", "agreeing", "random")


@dataclasses.dataclass(frozen=True)
class Budget:
    """Sizes and lengths that all rows share; model fields {} are those of the recipe."""

    held_in: int = 4_000  # images of each class in A
    held_out: int = 1_000  # in B
    test: int = 0  # of the test images; 0: all
    clusters: int = 1_000
    sample_steps: int = 16  # of Euler's method
    sample_batch: int = 512
    encoder_steps: int = 2_000
    encoder_batch: int = 1_024  # two views each of half as many
    denoiser_steps: int = 4_800
    denoiser_batch: int = 256
    denoiser_rate: float = 4e-4
    classifier_steps: int = 2_000
    classifier_batch: int = 256
    encoder: Mapping[str, int] = dataclasses.field(default_factory=dict)  # ViT-Ti/4
    denoiser: Mapping[str, int] = dataclasses.field(default_factory=dict)  # DiT-S/4
    classifier: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"depth": 6})

    def scaled(self, by: float) -> "Budget":
        """All training so many times as long."""
        names = ("encoder_steps", "denoiser_steps", "classifier_steps")
        return dataclasses.replace(self, **{n: round(by * getattr(self, n)) for n in names})


SMALL, TINY = ({"width": w, "depth": d, "num_heads": h} for w, d, h in ((64, 4, 4), (16, 1, 2)))
PRESETS = {
    "gpu": Budget(),
    "cpu": Budget(
        held_in=400, held_out=100, clusters=100, sample_batch=64, encoder_steps=600,
        encoder_batch=256, denoiser_steps=5_000, denoiser_batch=64, denoiser_rate=1e-3,
        classifier_steps=1_000, classifier_batch=64, encoder=SMALL, denoiser=SMALL,
        classifier=SMALL | {"patch_size": 8},
    ),
    "smoke": Budget(
        held_in=32, held_out=8, test=32, clusters=16, sample_steps=2, sample_batch=64,
        encoder_steps=12, encoder_batch=64, denoiser_steps=40, denoiser_batch=64,
        denoiser_rate=2e-2,
        classifier_steps=10, classifier_batch=64, encoder=TINY, denoiser=TINY, classifier=TINY,
    ),
}  # fmt: skip


class Job(NamedTuple):
    """One run or set, and the names of those that it waits for."""

    kind: str
    arm: str
    seed: int = -1
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.arm}" + (f"-seed{self.seed}" if self.seed >= 0 else "")


def plan(rows: list[str], seeds: list[int]) -> dict[str, Job]:
    """Of each row first what it waits for, then its classifiers."""
    jobs: dict[str, Job] = {}

    def add(kind: str, arm: str, *needs: str, seed: int = -1) -> str:
        job = Job(kind, arm, seed, needs)
        return jobs.setdefault(job.name, job).name

    for row in (name for name in ROWS if name in rows):
        made = ROWS[row].made
        needs: tuple[str, ...] = ()
        if made:
            denoiser = SETS[made].denoiser
            columns = [add("columns", one, add("encoder", one)) for one in (OWN, OTHER)]
            told = () if denoiser == "label" else columns[:1]
            needs = (add("set", made, add("denoiser", denoiser, *told), *columns),)
        for seed in seeds:
            add("classifier", row, *needs, seed=seed)
    return jobs


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things are under --out."""

    out: pathlib.Path

    @property
    def real(self) -> dict[str, str]:
        return {name: str(self.out / name) for name in ("a", "b", "test")}

    def images(self, made: str) -> str:
        return str(self.out / f"set-{made}" / "images")


def encoder(budget: Budget, seed: int, real: Mapping[str, str]):
    """SimCLR on A; its probe alone reads labels."""
    steps, batch = budget.encoder_steps, budget.encoder_batch
    config = _base("encoder", seed, steps, batch, budget.encoder, real.get("a"))
    if real:
        a, test = (c.store_source(real[one], size=32) for one in ("a", "test"))
        config.evals.probe = c.linear_probe_eval(a, test, batch_size=500)
    return config


def denoiser(budget: Budget, told: str, real: Mapping[str, str]):
    """Flow matching on A; only the condition differs between arms."""
    steps, batch = budget.denoiser_steps, budget.denoiser_batch
    config = _base(told, 0, steps, batch, budget.denoiser, real.get("a"))
    config.optimizer.learning_rate = budget.denoiser_rate
    config.schedule.update(name="cosine", final=0.0)
    if real:
        config.data.condition = CONDITIONS[told]
        for name in ("a",) if told == "cluster" else ("a", "b"):  # B's clusters are not known
            config.evals[name] = c.denoising_eval(
                c.store_source(real[name], size=32), batch_size=500
            )
    return config


def classifier(budget: Budget, seed: int, row: Row, real: Mapping[str, str], images: str = ""):
    """A ViT from scratch on what a row says, tested on the test images."""
    steps, batch = budget.classifier_steps, budget.classifier_batch
    config = _base("classify", seed, steps, batch, budget.classifier, real.get("a"))
    if row.plain:
        config.augment.update(crop="none", flip_lr=False)
    if not real:
        return config
    if row.made:
        made = c.store_source(images, index=row.listed, size=32, share=0.5 if row.real else 1.0)
        if row.real:
            config.data.sources.images.share = 0.5
            config.data.sources.made, config.data.label_space = made, "shared"
        else:
            config.data.sources.images = made
    config.evals.test = c.accuracy_eval(c.store_source(real["test"], size=32), batch_size=500)
    return config


def _base(name: str, seed: int, steps: int, batch: int, model: Mapping[str, int], a: str | None):
    """A recipe of repdiff_cifar10 at another length, on A; without `a` on what dryrun can count."""
    from jaxfdsl import load_config

    config = load_config(f"configs/repdiff_cifar10.py:{name}")
    config.seed, config.steps, config.batch_size = seed, steps, batch
    config.log_every, config.checkpoint_every, config.keep_checkpoints = 100, 1_000, 1
    config.schedule.warmup_steps = min(steps // 10, config.schedule.warmup_steps)
    config.report.update(tensorboard=False, gallery=False, drawing=False)
    config.model.update(model)
    config.evals = type(config)()
    images = c.tfds_source("cifar10", size=32) if a is None else c.store_source(a, size=32)
    config.data.sources.images = images
    return config
