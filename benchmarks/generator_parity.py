"""Does the representation generator put out what its PyTorch definition and diffusers' DDIM do?

    pip install "jaxfdsl[t2i]" && python benchmarks/generator_parity.py

The network of RCG (arXiv 2312.03701) in PyTorch's modules, with classes and without, every
parameter moved off its start, against ours; the number of parameters at the published size; the
schedule, the times of 250 steps and every step with eta 1 against `DDIMScheduler` as latent
diffusion sets it up. Prints a table and writes runs/generator_parity.json.
"""

import json
import pathlib

import jax
import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import nn

from jaxfdsl.representations import ddim, rdm, rdm_network

ASKED = 1e-5  # of outputs of about 1
SIZE, WIDTH, BLOCKS, TIME, CLASS, CLASSES = 24, 64, 3, 32, 16, 5


class Block(nn.Module):
    """LayerNorm, SiLU, Linear; plus embeddings; LayerNorm, SiLU, Linear; plus the input."""

    def __init__(self, classes: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.linear1, self.linear2 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.time = nn.Linear(TIME, WIDTH)
        self.about = nn.Linear(CLASS, WIDTH) if classes else None

    def forward(self, x, time, about):
        hidden = self.linear1(nn.functional.silu(self.norm1(x)))
        hidden = hidden + self.time(nn.functional.silu(time))
        if self.about is not None:
            hidden = hidden + self.about(nn.functional.silu(about))
        return x + self.linear2(nn.functional.silu(self.norm2(hidden)))


class Network(nn.Module):
    """The whole MLP."""

    def __init__(self, classes: int):
        super().__init__()
        self.input, self.output = nn.Linear(SIZE, WIDTH), nn.Linear(WIDTH, SIZE)
        self.time1, self.time2 = nn.Linear(WIDTH, TIME), nn.Linear(TIME, TIME)
        self.blocks = nn.ModuleList(Block(classes) for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.classes = nn.Embedding(classes, CLASS) if classes else None

    def forward(self, x, times, labels):
        omega = 10_000 ** -(torch.arange(WIDTH // 2) / (WIDTH // 2))
        angles = times[:, None] * omega
        waves = torch.cat([angles.cos(), angles.sin()], 1)
        time = self.time2(nn.functional.silu(self.time1(waves)))
        about = self.classes(labels) if self.classes is not None else None
        x = self.input(x)
        for block in self.blocks:
            x = block(x, time, about)
        return self.output(nn.functional.silu(self.norm(x)))


def ours(network: Network) -> dict:
    """The same weights under our names."""

    def linear(module: nn.Linear) -> dict:
        return {"kernel": array(module.weight).T, "bias": array(module.bias)}

    def norm(module: nn.LayerNorm) -> dict:
        return {"scale": array(module.weight), "bias": array(module.bias)}

    blocks = []
    for block in network.blocks:
        blocks.append({name: norm(getattr(block, name)) for name in ("norm1", "norm2")})
        blocks[-1] |= {
            name: linear(getattr(block, name)) for name in ("linear1", "linear2", "time")
        }
        if block.about is not None:
            blocks[-1]["class"] = linear(block.about)
    params = {
        name: linear(getattr(network, name)) for name in ("input", "output", "time1", "time2")
    }
    params |= {"norm": norm(network.norm), "blocks": jax.tree.map(lambda *a: np.stack(a), *blocks)}
    if network.classes is not None:
        params["classes"] = array(network.classes.weight)
    return params


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def network_error(classes: int) -> float:
    torch.manual_seed(classes)
    network = Network(classes).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        x, times = torch.randn(8, SIZE), torch.randint(0, 1000, (8,)).float()
        labels = torch.arange(8) % max(classes, 1)
        wanted = array(network(x, times, labels))
    given = array(labels) if classes else None
    found = jax.jit(rdm_network.apply)(ours(network), array(x), array(times), given)
    return float(np.abs(np.asarray(found) - wanted).max())


def step_errors() -> dict[str, float]:
    """Of the schedule, of the times, and the largest of all 250 steps, each from the same x."""
    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_start=ddim.FIRST, beta_end=ddim.LAST,
        beta_schedule="scaled_linear", prediction_type="sample", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading",
    )  # fmt: skip
    scheduler.set_timesteps(250)
    share = np.abs(scheduler.alphas_cumprod.numpy() - ddim.kept()).max()
    times = np.abs(scheduler.timesteps.numpy() - ddim.visited(250)).max()
    chance, worst = np.random.default_rng(0), 0.0
    taken = jax.jit(ddim.step)
    for time, row in zip(scheduler.timesteps, ddim.table(250), strict=True):
        clean, noise, fresh = chance.standard_normal((3, 4, SIZE)).astype(np.float32)
        noisy = np.sqrt(row[1]) * clean + np.sqrt(1 - row[1]) * noise
        given = [torch.from_numpy(one) for one in (clean, noisy, fresh)]
        there = scheduler.step(given[0], time, given[1], eta=1.0, variance_noise=given[2])
        found = taken(noisy, clean, fresh, row)
        worst = max(worst, float(np.abs(np.asarray(found) - there.prev_sample.numpy()).max()))
    return {"schedule": float(share), "times": float(times), "step, eta 1": worst}


def parameters(classes: int) -> int:
    """At the published size: 256 numbers, 12 blocks of 1536."""
    it = rdm.Settings()
    shapes = jax.eval_shape(
        lambda key: rdm_network.init(
            key, 256, it.width, it.blocks, classes, it.time_size, it.class_size
        ),
        jax.random.key(0),
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def main() -> None:
    errors = {"network": network_error(0), f"network, {CLASSES} classes": network_error(CLASSES)}
    errors |= step_errors()
    counts = {"parameters": parameters(0), "parameters, 1000 classes": parameters(1000)}
    print(f"{'what':28} {'largest difference':>20}")
    for name, error in errors.items():
        print(f"{name:28} {error:20.2e}")
    for name, count in counts.items():
        print(f"{name:28} {count:20,}")
    path = pathlib.Path("runs/generator_parity.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**errors, **counts}, indent=1) + "\n")
    if max(errors.values()) > ASKED:
        raise SystemExit(f"more than {ASKED}")


if __name__ == "__main__":
    main()
