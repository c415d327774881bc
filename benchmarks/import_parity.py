"""Does our ViT compute the logits that timm and transformers compute from the same files?

    python benchmarks/import_parity.py     # needs "jaxfdsl[interop]"; 5 minutes on two CPU cores

Models are randomly initialised by those libraries, saved as they save them (timm also by
torch.save), and read by `config.init_from`'s reader. Writes import_parity.json; 1e-5 is asked for.
"""

import json
import pathlib
import tempfile

import jax
import numpy as np
import safetensors.torch
import timm
import torch
import transformers

from jaxfdsl.config import default_config
from jaxfdsl.interop import weights
from jaxfdsl.models import transfer, variants, vit

SIZES = {"vit_ti": "tiny", "vit_s": "small", "vit_b": "base"}
CLASSES = 1000
DEFAULT = "huggingface 1e-12"  # another layer norm than ours, which init_from says; not judged


def theirs(kind: str, variant: str, size: int, folder: pathlib.Path):
    """A model of theirs and the path of its weights."""
    torch.manual_seed(0)
    if kind.startswith("huggingface"):
        shape = variants.VARIANTS[variant]
        config = transformers.ViTConfig(
            image_size=size,
            hidden_size=shape.width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.num_heads,
            intermediate_size=4 * shape.width,
            num_labels=CLASSES,
            layer_norm_eps=1e-12 if kind == DEFAULT else 1e-6,
        )
        model = transformers.ViTForImageClassification(config)
        model.save_pretrained(folder)
        return model, folder
    options = {"class_token": False, "global_pool": "avg"} if kind == "timm mean" else {}
    name = f"vit_{SIZES[variant]}_patch16_{size}"
    model = timm.create_model(name, num_classes=CLASSES, **options)
    torch.nn.init.normal_(model.head.weight, std=0.02)  # timm's head may start at zero
    if kind == "timm .pth":
        torch.save({"state_dict": model.state_dict()}, folder / "a.pth")
        return model, folder / "a.pth"
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    return model, folder / "model.safetensors"


def compare(kind: str, variant: str, size: int) -> dict:
    """Both sides' logits of two random images."""
    cfg = default_config().model
    pool = "mean" if kind == "timm mean" else "token"
    cfg.update(variant=variant, image_size=size, patch_size=16, pool=pool)
    ours = vit.build(cfg, CLASSES, "float32")
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        model, path = theirs(kind, variant, size, pathlib.Path(folder))
        with torch.no_grad():
            out = model.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        expected = getattr(out, "logits", out).numpy()
        loaded, _ = weights.load(path, ours.design.size.num_heads)
    fresh = jax.eval_shape(ours.init, jax.random.key(0))
    params, _ = transfer.adapt(loaded, fresh, keep_heads=True)

    def apply(params, images):
        with jax.default_matmul_precision("highest"):
            return ours.apply(params, images, train=False)["logits"]

    found = np.asarray(jax.jit(apply)(params, images))
    difference = float(np.abs(found - expected).max())
    largest = float(np.abs(expected).max())
    return {"difference": difference, "largest": largest}


def main() -> None:
    """Prints a row a case."""
    results = {}
    for kind in ("timm token", "timm mean", "timm .pth", "huggingface", DEFAULT):
        for variant in SIZES:
            for size in (224, 384):
                if kind in ("timm .pth", DEFAULT) and size == 384:
                    continue
                name = f"{kind}, {variant}, {size}"
                results[name] = compare(kind, variant, size)
                row = results[name]
                print(f"{name:32} {row['difference']:.1e} of {row['largest']:.2f}", flush=True)
    versions = {m.__name__: m.__version__ for m in (timm, torch, transformers, jax)}
    pathlib.Path("import_parity.json").write_text(
        json.dumps({"versions": versions, "results": results}, indent=1) + "\n"
    )
    worst = max(row["difference"] for name, row in results.items() if DEFAULT not in name)
    print(f"The largest difference is {worst:.1e}; {'fine' if worst <= 1e-5 else 'too large'}.")


if __name__ == "__main__":
    main()
