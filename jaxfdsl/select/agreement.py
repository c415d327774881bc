"""How well an image agrees with its caption, in the eyes of a run with `objective.align`: the
cosine of their embeddings (Hessel et al., arXiv 2104.08718, without its factor of 2.5).
"""

import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from jaxfdsl import checkpoint, compile_cache, sharding
from jaxfdsl.config import ConfigError
from jaxfdsl.config import path as config_path
from jaxfdsl.data import augment, store
from jaxfdsl.data.decode import View, centre_crop, decode_all
from jaxfdsl.data.store import columns, parts
from jaxfdsl.data.store.reader import Store
from jaxfdsl.evaluate import model_of
from jaxfdsl.evaluators import text as text_evaluators

NAME = "score:agreement"
PART = 8192  # images of a part, which a kill loses at most
AT_ONCE = 256  # images on the devices


def write(opened: Store, workdir: str, tell: Callable[[str], None] = print) -> None:
    """Write the column `score:agreement` of a store.

    Parts lie beside it until all are there; the same command goes on with them. What is there
    already of the same images and weights stays. A picture that cannot be decoded has -inf. Raises
    ConfigError for a run without a text tower and for images without a caption.
    """
    without = np.flatnonzero(np.asarray(opened.column("caption")) < 0)
    if len(without):
        raise ConfigError(
            f"{opened.path}: image {without[0]} has no caption, as {len(without)} of {len(opened)}"
            ": type --by score:NAME, or a store with captions."
        )
    score, made_by = _scorer(workdir)
    made_by["images"] = opened.layout.fingerprint
    file = columns.sidecar_file(opened.path, NAME)
    if parts.is_there(file, made_by):
        tell(f"{NAME} is there already, of these images and weights.")
        return

    def values(rows: np.ndarray, done: Callable[[int], Any]) -> np.ndarray:
        found = score(opened, rows)
        done(len(rows))
        return found

    with parts.gathered(file, made_by, len(opened), values, each=PART, desc="agreement") as scores:
        store.write_column(opened.path, NAME, scores, made_by)


def _scorer(workdir: str) -> tuple[Callable[[Store, np.ndarray], np.ndarray], dict[str, Any]]:
    """A function of a store and rows that gives their scores; and what says which it is."""
    config = config_path.of_workdir(workdir)
    try:
        params, origin = checkpoint.load_params(workdir)
    except FileNotFoundError as error:
        raise ConfigError(f"{error}: type the workdir of a run that saved one.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200] or repr(error)
        raise ConfigError(f"--model={workdir} cannot be read ({reason}): type another.") from error
    if "text" not in params:
        raise ConfigError(
            f"--model={workdir} has no text tower to compare captions by: type the workdir of a "
            "run with objective.align."
        )
    compile_cache.enable()
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1, "tensor": 1})
    cut = sharding.batch_parts(mesh)
    size, config.model.attention = -(-AT_ONCE // cut) * cut, "auto"
    saved = pathlib.Path(origin).parent
    model, tokenizer = model_of(config, params, saved), text_evaluators.tokenizer_of(config)
    view = View(config.model.image_size, interpolation=config.augment.interpolation)

    @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
    def agreement(params: Any, rows: Any) -> Float32[jax.Array, " B"]:
        images = augment.normalise(rows["image"], config.augment)
        seen = model.apply(params, images, train=False)["image_embedding"]
        read = model.text.apply(params["text"], rows["tokens"])
        lengths = jnp.linalg.norm(seen, axis=1) * jnp.linalg.norm(read, axis=1)
        return jnp.sum(seen * read, axis=1) / jnp.maximum(lengths, 1e-12)

    laid = jax.device_put(params, sharding.replicated(mesh))

    def score(opened: Store, rows: np.ndarray) -> Float32[np.ndarray, " n"]:
        found = []
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            pictures: list[bytes | None] = list(opened.read(part))
            images, valid = decode_all(pictures, lambda _, data: centre_crop(data, view), view.size)
            tokens = tokenizer(opened.captions(part))
            short = size - len(part)
            batch = {
                "image": np.pad(images, ((0, short), (0, 0), (0, 0), (0, 0))),
                "tokens": np.pad(tokens, ((0, short), (0, 0))),
            }
            values = np.asarray(agreement(laid, sharding.put_rows(mesh, batch)))[: len(part)]
            found.append(np.where(valid > 0, values, -np.inf).astype(np.float32))
        return np.concatenate(found)

    run = {"run": pathlib.Path(workdir).resolve().name, "step": int(saved.name)}
    return score, {"by": "agreement", **run, "weights": _digest(params)}


def _digest(params: Any) -> str:
    total = hashlib.sha256()
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()
