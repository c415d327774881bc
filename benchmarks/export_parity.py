"""Do timm and transformers compute the same logits from an exported folder as we do?

    python benchmarks/export_parity.py make DIR     # where jaxfdsl is installed: 3 minutes, 4.5 GB
    python benchmarks/export_parity.py check DIR    # where timm and transformers are, with torch

`make` exports randomly initialised models, every parameter moved off its initial value, with the
logits of random images, eight at 224 pixels and one at 384; `check` runs the lines of each folder's
card there, compares, prints a table and writes DIR/export_parity.json. The largest difference asked
for is 1e-5.
"""

import json
import os
import pathlib
import re
import sys

import numpy as np

CASES = {  # name: variant, image size, pool, and whether there is a classifier
    f"{variant}-{size}-{pool}": (variant, size, pool, True)
    for variant in ("vit_ti", "vit_s", "vit_b")
    for size in (224, 384)
    for pool in ("token", "mean")
} | {"vit_ti-224-trunk": ("vit_ti", 224, "token", False)}
IMAGES = {224: 8, 384: 1}  # compared at each size
ASKED = 1e-5


def make(root: pathlib.Path) -> None:
    """Exports every case to DIR/<case>/<layout>, its images and our outputs beside it."""
    import jax

    from jaxfdsl import config as config_lib
    from jaxfdsl.export import card, layouts
    from jaxfdsl.models import vit

    jax.config.update("jax_default_matmul_precision", "highest")
    for name, (variant, size, pool, head) in CASES.items():
        config = config_lib.default_config()
        config.model.variant, config.model.image_size, config.model.pool = variant, size, pool
        config.data.sources.fractals = config_lib.formula_source("fractaldb-1k")
        model = vit.build(config.model, {"head": 10} if head else {}, "float32")
        leaves, tree = jax.tree.flatten(jax.device_get(jax.jit(model.init)(jax.random.key(0))))
        rng = np.random.default_rng(1)
        moved = [x + 0.02 * rng.standard_normal(x.shape, np.float32) for x in leaves]
        params = jax.tree.unflatten(tree, moved)
        images = rng.standard_normal((IMAGES[size], size, size, 3), np.float32)
        outputs = jax.jit(lambda p, x, model=model: model.apply(p, x, train=False))(params, images)
        outputs = outputs["logits" if head else "features"]
        (root / name).mkdir(parents=True)
        np.savez(root / name / "images.npz", images=images, outputs=outputs)
        weights = layouts.Weights(config, params, "random weights")
        for to in ("timm", "huggingface", "big_vision") if pool == "token" else ("timm",):
            folder = root / name / to
            folder.mkdir()
            files = layouts.LAYOUTS[to](weights)
            told = {"to": to, "step": 0, "results": {}, "chain": [], "licence": "", "version": "0"}
            files["README.md"] = card.text(weights, **told).encode()
            for file, content in files.items():
                (folder / file).write_bytes(content)
        print(name, flush=True)


def check(root: pathlib.Path) -> None:
    """Loads each folder by its card, compares, and exits with 1 where a difference is too large."""
    import torch

    rows = []
    for folder in sorted(path.parent for path in root.resolve().glob("*/*/README.md")):
        stored = np.load(folder.parent / "images.npz")
        images = torch.from_numpy(stored["images"]).permute(0, 3, 1, 2).contiguous()
        code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
        names: dict = {}
        os.chdir(folder)
        exec(code[1], names)  # what a reader of the card would type
        for object_name in ("model", "same"):
            if object_name not in names:
                continue
            with torch.no_grad():
                out = names[object_name].eval()(images)
            theirs = np.asarray(_outputs(out))
            difference = float(np.abs(theirs - stored["outputs"]).max())
            library = type(names[object_name]).__name__
            spread = float(stored["outputs"].std())
            rows.append([folder.parent.name, folder.name, library, spread, difference])
            print(f"{rows[-1][0]:18} {rows[-1][1]:12} {library:32} {spread:6.2f} {difference:.1e}")
    (root / "export_parity.json").write_text(json.dumps(rows, indent=1))
    worst = max(row[-1] for row in rows)
    print(f"largest difference {worst:.1e}, asked for {ASKED:.0e}")
    raise SystemExit(int(worst > ASKED))


def _outputs(out):
    """Logits, or the features of a model without a classifier."""
    if hasattr(out, "logits"):
        return out.logits
    if getattr(out, "pooler_output", None) is not None:
        return out.pooler_output
    return out.last_hidden_state[:, 0] if hasattr(out, "last_hidden_state") else out


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
