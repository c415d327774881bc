"""Does our autoencoder put out what diffusers' AutoencoderKL does from the same file?

    pip install "jaxfdsl[t2i]" && python benchmarks/autoencoder_parity.py

Random weights, every one moved off its start, saved as diffusers saves them and read from there: a
small autoencoder, the same under the older names of its attention, one as SD 3's (16 channels, no
1 x 1 convolutions), and Stable Diffusion's whole one at 64 pixels. Means, logarithms of variances
and decoded images, as the largest difference by the largest value; with the whole one in bfloat16
too, of which nothing is asked. Prints a table and writes runs/autoencoder_parity.json.
"""

import argparse
import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from jaxfdsl.interop import autoencoder

ASKED = 1e-4
WHOLE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
SMALL = {"block_out_channels": (16, 32, 32), "layers_per_block": 1, "norm_num_groups": 8}
SD3 = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
SD3 |= {"scaling_factor": 1.5305, "shift_factor": 0.0609}
CASES = {
    "small": (SMALL, 32, "float32"),
    "small, older names": (SMALL, 32, "float32"),
    "small, as SD 3": (SMALL | SD3, 32, "float32"),
    "Stable Diffusion": (WHOLE, 64, "float32"),
    "Stable Diffusion in bfloat16": (WHOLE, 64, "bfloat16"),
}
OLDER = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def theirs(config: dict[str, Any]) -> AutoencoderKL:
    """The reference, with every parameter moved."""
    torch.manual_seed(0)
    levels = len(config["block_out_channels"])
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **config,
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def as_older(file: pathlib.Path) -> None:
    """The same file under the names that diffusers had first, its maps as convolutions."""
    state = {}
    for name, value in load_file(file).items():
        for new, old in OLDER.items():
            if f".attentions.0.{new}." in name:
                name = name.replace(f".{new}.", f".{old}.")
                value = value[:, :, None, None].contiguous() if value.ndim == 2 else value
        state[name] = value
    save_file(state, file)


def rows() -> Iterator[dict[str, Any]]:
    """A case at a time: its numbers and the three differences."""
    rng = np.random.default_rng(1)
    for title, (config, side, dtype) in CASES.items():
        model = theirs(config)
        images = rng.uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            model.save_pretrained(folder)
            file = pathlib.Path(folder) / autoencoder.FILES[0]
            if "older" in title:
                as_older(file)
            ours = autoencoder.load(folder, dtype)
            found = model.encode(torch.from_numpy(images.transpose(0, 3, 1, 2))).latent_dist
            decoded = model.decode(found.mean).sample
        wanted = [x.numpy().transpose(0, 2, 3, 1) for x in (found.mean, found.logvar, decoded)]
        mean, logvar = jax.jit(ours.encode)(ours.params, images)
        images_back = jax.jit(ours.decode)(ours.params, wanted[0])
        row = {"case": title, "parameters": sum(x.size for x in jax.tree.leaves(ours.params))}
        row |= {"scale": ours.scale, "shift": ours.shift, "dtype": dtype}
        assert row["parameters"] == sum(x.numel() for x in model.parameters())
        for name, a, b in zip(
            ("mean", "logvar", "decoded"), (mean, logvar, images_back), wanted, strict=True
        ):
            row[name] = float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs", help="folder of autoencoder_parity.json")
    out = pathlib.Path(parser.parse_args().out)
    jax.config.update("jax_default_matmul_precision", "highest")
    print(
        "| autoencoder | parameters | mean | logvar | decoded | asked |\n|---|---|---|---|---|---|"
    )
    done = []
    for row in rows():
        asked = f"{ASKED:.0e}" if row["dtype"] == "float32" else ""
        cells = " | ".join(f"{row[name]:.1e}" for name in ("mean", "logvar", "decoded"))
        print(f"| {row['case']} | {row['parameters']:,} | {cells} | {asked} |", flush=True)
        done.append(row)
    out.mkdir(parents=True, exist_ok=True)
    (out / "autoencoder_parity.json").write_text(json.dumps(done, indent=1))
    exact = [row for row in done if row["dtype"] == "float32"]
    if max(row[name] for row in exact for name in ("mean", "logvar", "decoded")) > ASKED:
        raise SystemExit("the models differ")


if __name__ == "__main__":
    main()
