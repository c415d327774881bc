"""Do our encoders put out the vectors that transformers computes from the same files?

    python benchmarks/encoder_parity.py [NAME...]   # needs "jaxfdsl[interop]"; 2 CPU-minutes

Models are randomly initialised by transformers, every parameter moved off its start, saved as it
saves them, and read by `open_encoder`; images are random bytes, normalised on both sides. The
offset rule of DINOv2's own files is compared with the interpolation of torch that its code calls.
big_vision's `.npz` of SigLIP holds the arrays of transformers' model, turned round. 1e-4 is asked
for, of a vector's largest number. Writes encoder_parity.json.
"""

import json
import pathlib
import sys
import tempfile
import time

import jax
import numpy as np
import torch
import transformers

from jaxfdsl.representations.encoders import open_encoder
from jaxfdsl.representations.encoders.positions import resized

ASKED = 1e-4
SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
S = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
B = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
SO400M = {"hidden_size": 1152, "num_hidden_layers": 2, "num_attention_heads": 16}  # 2 of 27 blocks
P14 = {"image_size": 518, "patch_size": 14}
GATED = {"use_gated_mlp": True, "hidden_act": "silu"}
DINOV3 = {"num_register_tokens": 4, "key_bias": False}

# name: class, fields of its config, image size
CASES = {
    "dinov2 small": ("Dinov2", SMALL | {"image_size": 56}, 56),
    "dinov2 small, 8x8 to 5x5": ("Dinov2", SMALL | {"image_size": 112}, 70),
    "dinov2 small SwiGLU": ("Dinov2", SMALL | {"image_size": 56, "use_swiglu_ffn": True}, 56),
    "dinov2 S/14, 37x37 to 16x16": ("Dinov2", S | {"image_size": 518}, 224),
    "dinov2 B/14, 37x37 to 16x16": ("Dinov2", B | {"image_size": 518}, 224),
    "dinov2 S/14 4 registers": ("Dinov2WithRegisters", S | P14, 224),
    "dinov3 small": ("DINOv3ViT", SMALL | DINOV3 | {"intermediate_size": 96}, 64),
    "dinov3 small SwiGLU": ("DINOv3ViT", SMALL | DINOV3 | GATED | {"intermediate_size": 96}, 64),
    "dinov3 S/16": ("DINOv3ViT", S | DINOV3, 224),
    "dinov3 S+/16": ("DINOv3ViT", S | DINOV3 | GATED, 224),
    "dinov3 B/16": ("DINOv3ViT", B | DINOV3 | {"intermediate_size": 3072}, 224),
    "clip small": ("CLIP", SMALL | {"intermediate_size": 96, "image_size": 64}, 64),
    "clip small :pre": ("CLIP", SMALL | {"intermediate_size": 96, "image_size": 64}, 64),
    "clip B/32": ("CLIP", B, 224),
    "clip B/32 :pre": ("CLIP", B, 224),
    "clip B/16": ("CLIP", B | {"patch_size": 16}, 224),
    "siglip small": ("Siglip", SMALL | {"intermediate_size": 96, "image_size": 64}, 64),
    "siglip small .npz": ("Siglip", SMALL | {"intermediate_size": 96, "image_size": 64}, 64),
    "siglip B/16": ("Siglip", B, 224),
    "siglip so400m/14, 2 blocks": (
        "Siglip",
        SO400M | {"intermediate_size": 4304, "image_size": 224, "patch_size": 14},
        224,
    ),
}


def theirs(name: str, folder: pathlib.Path) -> tuple[torch.nn.Module, str]:
    """A model of theirs, and what to type for it."""
    kind, fields, size = CASES[name]
    torch.manual_seed(0)
    if kind in ("CLIP", "Siglip"):
        config = getattr(transformers, f"{kind}VisionConfig")(**fields)
        text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        text |= {"num_attention_heads": 1, "vocab_size": 64, "max_position_embeddings": 8}
        whole = getattr(transformers, f"{kind}Config")(
            vision_config=config.to_dict(), text_config=text
        )
        model = getattr(transformers, f"{kind}Model")(whole)
    else:
        model = getattr(transformers, f"{kind}Model")(
            getattr(transformers, f"{kind}Config")(**fields)
        )
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.02)
    model.save_pretrained(folder)
    sizes = {"crop_size": {"height": size, "width": size}}
    (folder / "preprocessor_config.json").write_text(json.dumps(sizes))
    return model.eval(), str(folder)


def as_npz(model: torch.nn.Module, folder: pathlib.Path) -> str:
    """big_vision's file with the same arrays."""
    model, path = model.vision_model, folder / "siglip.npz"
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    heads, width = SMALL["num_attention_heads"], SMALL["hidden_size"]
    made = {
        "embedding/kernel": state["embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["embeddings.patch_embedding.bias"],
        "pos_embedding": state["embeddings.position_embedding.weight"][None],
        "MAPHead_0/probe": state["head.probe"],
    }

    def attention(ours: str, weights: list, biases: list, out: str) -> None:
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            made[f"{ours}/{part}/kernel"] = weight.T.reshape(width, heads, -1)
            made[f"{ours}/{part}/bias"] = bias.reshape(heads, -1)
        made[f"{ours}/out/kernel"] = state[f"{out}.weight"].T.reshape(heads, -1, width)
        made[f"{ours}/out/bias"] = state[f"{out}.bias"]

    def rest(ours: str, theirs: str, leaf: str = "kernel") -> None:
        weight = state[f"{theirs}.weight"]
        made[f"{ours}/{leaf}"] = weight.T if leaf == "kernel" else weight
        made[f"{ours}/bias"] = state[f"{theirs}.bias"]

    for i in range(SMALL["num_hidden_layers"]):
        ours, there = f"Transformer/encoderblock_{i}", f"encoder.layers.{i}"
        parts = [f"{there}.self_attn.{x}_proj" for x in "qkv"]
        kernels, biases = ([state[f"{p}.{leaf}"] for p in parts] for leaf in ("weight", "bias"))
        name = f"{ours}/MultiHeadDotProductAttention_0"
        attention(name, kernels, biases, f"{there}.self_attn.out_proj")
        for j in range(2):
            rest(f"{ours}/LayerNorm_{j}", f"{there}.layer_norm{j + 1}", "scale")
            rest(f"{ours}/MlpBlock_0/Dense_{j}", f"{there}.mlp.fc{j + 1}")
            rest(f"MAPHead_0/MlpBlock_0/Dense_{j}", f"head.mlp.fc{j + 1}")
    inside = "head.attention.in_proj_"
    kernels, biases = (np.split(state[f"{inside}{leaf}"], 3) for leaf in ("weight", "bias"))
    attention(
        "MAPHead_0/MultiHeadDotProductAttention_0", kernels, biases, "head.attention.out_proj"
    )
    rest("MAPHead_0/LayerNorm_0", "head.layernorm", "scale")
    rest("Transformer/encoder_norm", "post_layernorm", "scale")
    np.savez(path, **{f"params/img/{n}": x for n, x in made.items()}, **{"params/t": np.ones(1)})
    return str(path)


def compare(name: str) -> dict[str, float]:
    """The largest difference, and the largest number, of two images' vectors."""
    size = CASES[name][2]
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as place:
        model, spec = theirs(name, pathlib.Path(place))
        spec = as_npz(model, pathlib.Path(place)) if name.endswith(".npz") else spec
        encoder = open_encoder(f"{spec}:pre" if name.endswith(":pre") else spec)
    assert encoder.image_size == size, encoder.image_size
    mean, std = (np.array(encoder.made_by[field], np.float32) for field in ("mean", "std"))
    pixels = torch.from_numpy(((images / 255 - mean) / std).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        expected = _features(model, pixels, name).numpy()
    start = time.perf_counter()
    found = np.asarray(jax.jit(encoder.apply)(encoder.params, images))
    assert found.shape == expected.shape == (2, encoder.width), found.shape
    return {
        "difference": float(np.abs(found - expected).max()),
        "largest": float(np.abs(expected).max()),
        "seconds": time.perf_counter() - start,
    }


def _features(model: torch.nn.Module, pixels: torch.Tensor, name: str) -> torch.Tensor:
    if name.startswith("clip"):
        out = model.vision_model(pixels)
        if name.endswith(":pre"):
            return out.last_hidden_state[:, 0]
        return model.visual_projection(out.pooler_output)
    if name.startswith("siglip"):
        return model.vision_model(pixels).pooler_output
    return model(pixels).last_hidden_state[:, 0]


def positions() -> dict[str, dict[str, float]]:
    """Our matrices beside torch's `interpolate`, 37 x 37 to 16 x 16 and to 40 x 40."""
    grid = np.random.default_rng(0).standard_normal((37 * 37, 8)).astype(np.float32)
    square = torch.from_numpy(grid.reshape(1, 37, 37, 8)).permute(0, 3, 1, 2)
    rows = {}
    for kind in ("cubic", "antialiased", "offset"):
        for side in (16, 40):
            wanted = {"scale_factor": (side + 0.1) / 37} if kind == "offset" else {"size": side}
            wanted["antialias"] = kind == "antialiased"
            if kind == "offset":
                wanted["scale_factor"] = (wanted["scale_factor"],) * 2
            out = torch.nn.functional.interpolate(square, mode="bicubic", **wanted)
            expected = out.permute(0, 2, 3, 1).reshape(side * side, 8).numpy()
            difference = float(np.abs(resized(grid, side, kind) - expected).max())
            largest = float(np.abs(expected).max())
            rows[f"positions {kind}, to {side}"] = {"difference": difference, "largest": largest}
    return rows


def main() -> None:
    """Prints a row a case."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    results = {} if sys.argv[1:] else positions()
    for name, row in results.items():
        _show(name, row)
    for name in sys.argv[1:] or CASES:
        results[name] = compare(name)
        _show(name, results[name])
    versions = {m.__name__: m.__version__ for m in (torch, transformers, jax)}
    pathlib.Path("encoder_parity.json").write_text(
        json.dumps({"versions": versions, "results": results}, indent=1) + "\n"
    )
    worst = max(row["difference"] / row["largest"] for row in results.values())
    print(f"The largest relative difference is {worst:.1e}; {ASKED:.0e} is asked for.")
    if not worst <= ASKED:
        sys.exit("the encoders differ")


def _show(name: str, row: dict[str, float]) -> None:
    relative = row["difference"] / row["largest"]
    print(f"{name:32} {row['difference']:.1e} of {row['largest']:5.2f}: {relative:.1e}", flush=True)


if __name__ == "__main__":
    main()
