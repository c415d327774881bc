"""Are the attention probabilities that we read out of a ViT those of timm and transformers?

    python benchmarks/attention_parity.py   # needs "jaxfdsl[interop]"; a minute of CPU time

Models are randomly initialised by those libraries, their queries and keys made larger, so that
logits deviate by about 2 at every width, saved as they save them, and read by `config.init_from`'s
reader. (Sharper attention makes float32's rounding of each side visible, theirs as ours.) All
blocks and heads are compared: with what timm's blocks hand to `attn_drop` (a hook, without fused
kernels), and with transformers' `output_attentions`. Features are compared with `Model.apply`'s.
Writes attention_parity.json into --out; 1e-5 is asked for.
"""

import argparse
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
from jaxfdsl.models import attention_maps, transfer, variants, vit

ASKED = 1e-5
CASES = [  # library, variant, image size, pool
    ("timm", "vit_ti", 224, "token"),
    ("timm", "vit_ti", 224, "mean"),
    ("timm", "vit_ti", 384, "token"),
    ("timm", "vit_s", 224, "token"),
    ("timm", "vit_b", 224, "token"),
    ("transformers", "vit_ti", 224, "token"),
    ("transformers", "vit_b", 224, "token"),
]


def factor(width: int) -> float:
    """By which queries and keys are multiplied, whose weights start with a deviation of 0.02."""
    return 5 * (192 / width) ** 0.5


def of_timm(variant: str, size: int, pool: str, images: torch.Tensor, folder: pathlib.Path):
    """A timm model's attention, [L, B, H, N, N]; its weights go to the folder."""
    name = {"vit_ti": "tiny", "vit_s": "small", "vit_b": "base"}[variant]
    options = {"class_token": False, "global_pool": "avg"} if pool == "mean" else {}
    model = timm.create_model(f"vit_{name}_patch16_{size}", **options).eval()
    seen = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.qkv.weight.data[: 2 * model.embed_dim] *= factor(model.embed_dim)
        block.attn.attn_drop.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    with torch.no_grad():
        model(images)
    return torch.stack(seen).numpy()


def of_transformers(variant: str, size: int, pool: str, images: torch.Tensor, folder: pathlib.Path):
    """The same of a Hugging Face model."""
    shape = variants.VARIANTS[variant]
    config = transformers.ViTConfig(
        image_size=size,
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.num_heads,
        intermediate_size=4 * shape.width,
        layer_norm_eps=1e-6,
        attn_implementation="eager",
    )
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    for name, value in model.named_parameters():
        if any(part in name for part in ("query.weight", "key.weight", "q_proj.w", "k_proj.w")):
            value.data *= factor(shape.width)
    model.save_pretrained(folder)
    with torch.no_grad():
        return torch.stack(model(images, output_attentions=True).attentions).numpy()


def compare(library: str, variant: str, size: int, pool: str) -> dict[str, float]:
    """Differences in attention and features, over two random images."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    theirs = {"timm": of_timm, "transformers": of_transformers}[library]
    cfg = default_config().model
    cfg.update(variant=variant, image_size=size, patch_size=16, pool=pool)
    ours = vit.build(cfg, {}, "float32")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        given = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        expected = theirs(variant, size, pool, given, folder)
        path = folder / "model.safetensors" if library == "timm" else folder
        loaded, _ = weights.load(path, ours.design.size.num_heads)
    params, _ = transfer.adapt(loaded, jax.eval_shape(ours.init, jax.random.key(0)))
    outputs, found = jax.jit(attention_maps.read_out, static_argnums=2)(params, images, ours.design)
    with jax.default_matmul_precision("highest"):
        applied = jax.jit(lambda p, x: ours.apply(p, x, train=False))(params, images)
    features = np.abs(np.asarray(outputs["features"]) - np.asarray(applied["features"])).max()
    return {
        "attention": float(np.abs(np.asarray(found) - expected).max()),
        "largest": float(expected.max()),
        "even": 1 / expected.shape[-1],
        "features": float(features),
    }


def main() -> None:
    """Prints a row a case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    print("library, variant, size, pool         attention  of at most  (even)   features")
    for case in CASES:
        name = ", ".join(map(str, case))
        row = results[name] = compare(*case)
        print(
            f"{name:36} {row['attention']:.1e}    {row['largest']:.3f}       {row['even']:.4f}   "
            f"{row['features']:.1e}",
            flush=True,
        )
    versions = {m.__name__: m.__version__ for m in (timm, torch, transformers, jax)}
    written = json.dumps({"versions": versions, "results": results}, indent=1)
    (out / "attention_parity.json").write_text(written + "\n")
    worst = max(max(row["attention"], row["features"]) for row in results.values())
    print(f"The largest difference is {worst:.1e}; {'fine' if worst <= ASKED else 'too large'}.")


if __name__ == "__main__":
    main()
