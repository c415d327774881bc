"""Does our denoiser put out what diffusers' DiT does from the same weights?

    pip install "jaxfdsl[t2i]" && python benchmarks/denoiser_parity.py

A random DiT of four blocks, conditioned on classes, every parameter moved off its start, in
diffusers' `DiTTransformer2DModel` and in ours; with and without a condition. diffusers spaces the
frequencies of a time by 1/127, the authors' code by 1/128, as we do: it is told to do likewise.
Prints a table and writes runs/denoiser_parity.json.
"""

import json
import pathlib

import jax
import numpy as np
import torch
from diffusers import DiTTransformer2DModel

from jaxfdsl.models import denoiser
from jaxfdsl.models.variants import Variant

ASKED = 1e-5  # of outputs of about 1
WIDTH, DEPTH, HEADS, CLASSES = 96, 4, 4, 10


def theirs() -> DiTTransformer2DModel:
    """The reference, with every parameter moved."""
    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, in_channels=4,
        out_channels=8, num_layers=DEPTH, sample_size=8, patch_size=2,
        num_embeds_ada_norm=CLASSES, norm_type="ada_norm_zero", norm_elementwise_affine=False,
        norm_eps=1e-6,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        first = model.transformer_blocks[0].norm1.emb
        for block in model.transformer_blocks:  # DiT has one embedding, not one a block
            block.norm1.emb.load_state_dict(first.state_dict())
            block.norm1.emb.time_proj.downscale_freq_shift = 0
    return model


def ours(model: DiTTransformer2DModel) -> dict:
    """The same weights under our names."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}

    def linear(name: str) -> dict:
        return {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}

    patches = state["pos_embed.proj.weight"].transpose(2, 3, 1, 0).reshape(-1, WIDTH)
    emb = "transformer_blocks.0.norm1.emb"
    table = state[f"{emb}.class_embedder.embedding_table.weight"]
    params = {
        "patches": {"kernel": patches, "bias": state["pos_embed.proj.bias"]},
        "time1": linear(f"{emb}.timestep_embedder.linear_1"),
        "time2": linear(f"{emb}.timestep_embedder.linear_2"),
        "cond_embed": {"kernel": table[:CLASSES]},
        "no_cond": table[CLASSES],
        "modulation": linear("proj_out_1"),
        "output": linear("proj_out_2"),
    }
    for i in range(DEPTH):
        block = f"transformer_blocks.{i}"
        parts = [linear(f"{block}.attn1.to_{letter}") for letter in "qkv"]
        out = linear(f"{block}.attn1.to_out.0")
        shape = (HEADS, WIDTH // HEADS)
        params[f"blocks_{i}"] = {
            "modulation": linear(f"{block}.norm1.linear"),
            "attn": {
                "qkv": {
                    "kernel": np.stack([p["kernel"].reshape(WIDTH, *shape) for p in parts], 1),
                    "bias": np.stack([p["bias"].reshape(shape) for p in parts]),
                },
                "proj": {"kernel": out["kernel"].reshape(*shape, WIDTH), "bias": out["bias"]},
            },
            "fc1": linear(f"{block}.ff.net.0.proj"),
            "fc2": linear(f"{block}.ff.net.2"),
        }
    return params


def main() -> None:
    jax.config.update("jax_default_matmul_precision", "highest")
    model = theirs()
    rng = np.random.default_rng(1)
    images = rng.standard_normal((6, 8, 8, 4)).astype(np.float32)
    steps = np.array([0, 125, 250, 500, 625, 875])  # eighths, which float32 holds exactly
    classes = np.array([3, 1, 4, 1, 5, 9])
    known = np.array([True, True, False, True, False, True])
    with torch.no_grad():
        wanted = model(
            torch.from_numpy(images.transpose(0, 3, 1, 2)),
            timestep=torch.from_numpy(steps),
            class_labels=torch.from_numpy(np.where(known, classes, CLASSES)),
        ).sample.numpy()
    design = denoiser.Design(
        size=Variant(WIDTH, DEPTH, HEADS), image_size=8, channels=4, patch_size=2,
        cond_size=CLASSES, output_channels=8, attention="xla", scan_blocks=False, remat="none",
        dtype=np.dtype("float32"),
    )  # fmt: skip
    one_hot = np.eye(CLASSES, dtype=np.float32)[classes]
    times = (steps / 1000).astype(np.float32)
    found = denoiser.build(design).velocity(ours(model), images, times, one_hot, known)
    worst = float(np.abs(np.asarray(found).transpose(0, 3, 1, 2) - wanted).max())
    size = float(np.abs(wanted).mean())
    print(f"{'images':>6} {'mean size':>10} {'largest difference':>20} {'asked':>8}")
    print(f"{len(images):>6} {size:>10.3f} {worst:>20.2e} {ASKED:>8.0e}")
    out = pathlib.Path("runs")
    out.mkdir(exist_ok=True)
    told = {"largest_difference": worst, "mean_size": size}
    (out / "denoiser_parity.json").write_text(json.dumps(told))
    if worst > ASKED:
        raise SystemExit("the models differ")


if __name__ == "__main__":
    main()
