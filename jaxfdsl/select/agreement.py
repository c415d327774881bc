"""How well an image agrees with its caption, in the eyes of a run with `objective.align`: the
cosine of their embeddings (Hessel et al., arXiv 2104.08718, without its factor of 2.5).
"""

import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from jaxfdsl import checkpoint, compile_cache, config_path, sharding, terminal, text_evaluators
from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment, store
from jaxfdsl.data.decode import View, centre_crop, decode_all
from jaxfdsl.data.store import columns, layout
from jaxfdsl.data.store.reader import Store
from jaxfdsl.evaluate import model_of

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
    if file.with_suffix(".json").is_file() and columns.described(file)["made_by"] == made_by:
        tell(f"{NAME} is there already, of these images and weights.")
        return
    folder = file.with_name("agreement.parts")
    _begin(folder, made_by)
    with terminal.progress(len(opened), desc="agreement", unit="images") as bar:
        for first in range(0, len(opened), PART):
            rows = np.arange(first, min(first + PART, len(opened)))
            part = folder / f"{first:012d}.npy"
            if not part.is_file():
                values = score(opened, rows)
                with layout.whole(part) as made:
                    np.save(made, values)
            bar.update(len(rows))
    parts = [np.load(folder / f"{n:012d}.npy") for n in range(0, len(opened), PART)]
    store.write_column(opened.path, NAME, np.concatenate(parts), made_by)
    shutil.rmtree(folder)


def _begin(folder: pathlib.Path, made_by: dict[str, Any]) -> None:
    """Parts of other weights or images are thrown away."""
    text, said = json.dumps({**made_by, "part": PART}, sort_keys=True), folder / "made_by.json"
    if folder.exists() and not (said.is_file() and said.read_text() == text):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with layout.whole(said) as file:
        file.write(text.encode())


def _scorer(workdir: str) -> tuple[Callable[[Store, np.ndarray], np.ndarray], dict[str, Any]]:
    """A function of a store and rows that gives their scores; and what says which it is."""
    config = config_path.of_workdir(workdir)
    try:
        params, origin = checkpoint.load_params(workdir)
    except FileNotFoundError as error:
        raise ConfigError(f"{error}: type the workdir of a run that saved one.") from error
    if "text" not in params:
        raise ConfigError(
            f"--model={workdir} has no text tower to compare captions by: type the workdir of a "
            "run with objective.align."
        )
    compile_cache.enable()
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1, "tensor": 1})
    parts = sharding.batch_parts(mesh)
    size, config.model.attention = -(-AT_ONCE // parts) * parts, "auto"
    model, tokenizer = model_of(config, params), text_evaluators.tokenizer_of(config)
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

    step = pathlib.Path(origin).parent.name
    run = {"run": pathlib.Path(workdir).resolve().name, "step": int(step)}
    return score, {"by": "agreement", **run, "weights": _digest(params)}


def _digest(params: Any) -> str:
    total = hashlib.sha256()
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()
