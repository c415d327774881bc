"""Does our ViT compute the logits that timm and transformers compute from the same files?

    python benchmarks/import_parity.py [KIND...]     # needs "jaxfdsl[interop]"; 8 minutes, 2 cores

Models are randomly initialised by those libraries, saved as they save them (timm also by
torch.save), and read by `config.init_from`'s reader. Kinds: "timm token", "timm mean", "timm .pth",
huggingface, "huggingface 1e-12" (layer norms of that epsilon), "huggingface dinov2" (features of
S, B and L with patches of 14, whose LayerScale is folded into our weights). Writes
import_parity.json; 1e-5 is asked for.
"""

import json
import pathlib
import sys
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
DEFAULT = "huggingface 1e-12"  # as transformers makes a model that is told nothing
DINOV2 = "huggingface dinov2"
KINDS = ("timm token", "timm mean", "timm .pth", "huggingface", DEFAULT, DINOV2)


def theirs(kind: str, variant: str, size: int, folder: pathlib.Path):
    """A model of theirs and the path of its weights."""
    torch.manual_seed(0)
    if kind == DINOV2:
        shape = variants.VARIANTS[variant]
        config = transformers.Dinov2Config(
            image_size=size,
            hidden_size=shape.width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.num_heads,
        )
        model = transformers.Dinov2Model(config)
        with torch.no_grad():  # as large as trained ones, none the identity
            for name, value in model.named_parameters():
                if "layer_scale" in name:
                    value.uniform_(0.05, 1.0)
        model.save_pretrained(folder)
        return model, folder
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
    patch = 14 if kind == DINOV2 else 16
    cfg.update(variant=variant, image_size=size, patch_size=patch, pool=pool)
    cfg.norm_epsilon = 1e-12 if kind == DEFAULT else 1e-6
    ours = vit.build(cfg, {} if kind == DINOV2 else CLASSES, "float32")
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        model, path = theirs(kind, variant, size, pathlib.Path(folder))
        with torch.no_grad():
            out = model.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        out = out.pooler_output if kind == DINOV2 else getattr(out, "logits", out)
        expected = out.numpy()
        loaded, said = weights.load(path, ours.design.size.num_heads, cfg.norm_epsilon)
        assert "epsilon" not in said, said
    fresh = jax.eval_shape(ours.init, jax.random.key(0))
    params, _ = transfer.adapt(loaded, fresh, keep_heads=True)

    def apply(params, images):
        with jax.default_matmul_precision("highest"):
            outputs = ours.apply(params, images, train=False)
            return outputs["features" if kind == DINOV2 else "logits"]

    found = np.asarray(jax.jit(apply)(params, images))
    difference = float(np.abs(found - expected).max())
    largest = float(np.abs(expected).max())
    return {"difference": difference, "largest": largest}


def main() -> None:
    """Prints a row a case."""
    results = {}
    for kind in sys.argv[1:] or KINDS:
        for variant in ("vit_s", "vit_b", "vit_l") if kind == DINOV2 else SIZES:
            for size in (224,) if kind in ("timm .pth", DEFAULT, DINOV2) else (224, 384):
                name = f"{kind}, {variant}, {size}"
                results[name] = compare(kind, variant, size)
                row = results[name]
                print(f"{name:32} {row['difference']:.1e} of {row['largest']:.2f}", flush=True)
    versions = {m.__name__: m.__version__ for m in (timm, torch, transformers, jax)}
    pathlib.Path("import_parity.json").write_text(
        json.dumps({"versions": versions, "results": results}, indent=1) + "\n"
    )
    worst = max(row["difference"] for row in results.values())
    print(f"The largest difference is {worst:.1e}; {'fine' if worst <= 1e-5 else 'too large'}.")


if __name__ == "__main__":
    main()
