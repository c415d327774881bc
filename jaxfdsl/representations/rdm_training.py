"""Training the representation generator: one step as a program, the column on the device.

The noise of a step hangs on (seed, step), its rows on the seed's shuffle of the epoch; so training
that is killed goes on as if it had not been.
"""

import dataclasses
import functools
import json
import pathlib
import time
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float32, Int

from jaxfdsl import terminal, whole_file
from jaxfdsl.config import ConfigError
from jaxfdsl.data.shuffle import hash64, permute
from jaxfdsl.representations import ddim, rdm_network
from jaxfdsl.representations.rdm import Settings

KEEP_EVERY = 60.0  # seconds of training that a kill loses at most
_LOOK_EVERY = 100  # steps between two looks at the loss
_SIZES = ("width", "blocks", "time_size", "class_size")


class _Training(NamedTuple):
    params: rdm_network.Params
    average: rdm_network.Params
    optimizer: optax.OptState
    step: jax.Array


def train(
    standard: Float32[np.ndarray, "n D"],
    labels: Int[np.ndarray, " n"] | None,
    classes: int,
    seed: int,
    settings: Settings,
    made_by: Mapping[str, Any],
    keep: pathlib.Path | None,
) -> rdm_network.Params:
    """The moving average of the parameters after `settings.epochs` of standardised vectors."""
    count, size = standard.shape
    batch = min(settings.batch, count)
    steps = settings.epochs * (count // batch)
    said = {"settings": dataclasses.asdict(settings), "seed": seed, "made_by": dict(made_by)}
    said |= {"shape": [count, size], "classes": classes}
    key = jax.random.PRNGKey(seed)
    training = _begin(jax.random.fold_in(key, 0), size, classes, settings)
    training = _continued(keep, said, training)
    values, known = jnp.asarray(standard), None if labels is None else jnp.asarray(labels)
    saved, first = time.monotonic(), int(training.step)
    with terminal.progress(steps, desc="generator", unit="steps", initial=first) as bar:
        for step in range(first, steps):
            rows = _rows(step, count, batch, seed)
            noise = jax.random.fold_in(jax.random.fold_in(key, 1), step)
            training, loss = _step(settings, training, values, known, jnp.asarray(rows), noise)
            bar.update(1)
            if (step + 1) % _LOOK_EVERY and step + 1 < steps:
                continue
            bar.set_postfix_str(f"loss {_finite(loss, step):.3f}", refresh=False)
            if keep is not None and time.monotonic() - saved >= KEEP_EVERY:
                _save(keep, said, training)
                saved = time.monotonic()
    return training.average


def _optimizer(settings: Settings) -> optax.GradientTransformation:
    rate, decay = settings.learning_rate, settings.weight_decay
    return optax.adamw(rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=decay)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _begin(key: jax.Array, size: int, classes: int, settings: Settings) -> _Training:
    sizes = {name: getattr(settings, name) for name in _SIZES}
    params = rdm_network.init(key, size=size, classes=classes, **sizes)
    average = jax.tree.map(jnp.copy, params)  # the step gives both buffers away
    return _Training(params, average, _optimizer(settings).init(params), jnp.zeros((), jnp.int32))


def _rows(step: int, count: int, batch: int, seed: int) -> np.ndarray:
    """Of the epoch's shuffle; a rest that fills no batch is left out."""
    epoch, place = divmod(step, count // batch)
    places = np.arange(place * batch, (place + 1) * batch)
    return permute(places, count, hash64(seed, epoch)).astype(np.int32)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(
    settings: Settings,
    training: _Training,
    column: jax.Array,
    labels: jax.Array | None,
    rows: jax.Array,
    key: jax.Array,
) -> tuple[_Training, jax.Array]:
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    clean = column[rows]
    given = None if labels is None else labels[rows]
    times = jax.random.randint(time_key, rows.shape, 0, ddim.TIMES)
    share = jnp.asarray(ddim.kept(), jnp.float32)[times][:, None]
    noise = jax.random.normal(noise_key, clean.shape)
    noisy = jnp.sqrt(share) * clean + jnp.sqrt(1 - share) * noise

    def loss_of(params: rdm_network.Params) -> jax.Array:
        at, dropout = times.astype(jnp.float32), settings.dropout
        found = rdm_network.apply(params, noisy, at, given, dropout=dropout, key=drop_key)
        return jnp.mean(jnp.square(found - clean))

    loss, slopes = jax.value_and_grad(loss_of)(training.params)
    change, optimizer = _optimizer(settings).update(slopes, training.optimizer, training.params)
    params = optax.apply_updates(training.params, change)
    number = training.step + 1
    decay = jnp.minimum(settings.decay, (1 + number) / (10 + number))
    average = optax.incremental_update(params, training.average, 1 - decay)
    return _Training(params, average, optimizer, number), loss


def _finite(loss: jax.Array, step: int) -> float:
    value = float(loss)
    if not np.isfinite(value):
        raise ConfigError(
            f"the loss of the representation generator is {value} at step {step}: type a smaller "
            "--learning_rate."
        )
    return value


def _save(path: pathlib.Path, said: Mapping[str, Any], training: _Training) -> None:
    leaves: dict[str, Any] = {
        str(n): np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(training))
    }
    with whole_file.written(path) as file:
        np.savez(file, said=np.array(json.dumps(said, sort_keys=True)), **leaves)


def _continued(
    path: pathlib.Path | None, said: Mapping[str, Any], training: _Training
) -> _Training:
    """What is kept of the same training; of another one, or where nothing is, `training`."""
    if path is None or not path.is_file():
        return training
    leaves, tree = jax.tree.flatten(training)
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["said"]) != json.dumps(said, sort_keys=True):
                return training
            found = [jnp.asarray(file[str(n)]) for n in range(len(leaves))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return training  # damaged: begin again
    return jax.tree.unflatten(tree, found)
