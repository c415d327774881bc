"""What a training step and a sample of a DiT cost in PyTorch: `denoiser_speed.py` has ours.

    python benchmarks/denoiser_speed.py --torch_python /venv/bin/python

The model is DiT as its authors have it (github.com/facebookresearch/DiT, `models.py`) with
scaled_dot_product_attention, and a vector for a class. A step is flow matching on one constant
batch: noise, times and hidden conditions drawn anew, forward, backward, fused AdamW. GPU: bfloat16
autocast, TF32 for what is left in float32; CPU: float32. "compile" has loss and velocity under
torch.compile with fixed shapes. Needs torch, and neither JAX nor this package.
"""

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from baselines_train import Answers, serve, spent
from torch import nn
from torch.nn import functional as F

SIZES = {  # width, depth, heads
    "dit_s": (384, 12, 6),
    "dit_b": (768, 12, 12),
    "dit_l": (1024, 24, 16),
    "dit_xl": (1152, 28, 16),
}
HIDDEN = 0.1


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """The ViT's block, modulated by a vector."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        six = self.modulation(F.silu(vector)).chunk(6, dim=1)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = six
        x = x + gate[:, None] * self.attend(modulate(self.norm1(x), shift, scale))
        hidden = F.gelu(self.fc1(modulate(self.norm2(x), shift_mlp, scale_mlp)), approximate="tanh")
        return x + gate_mlp[:, None] * self.fc2(hidden)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        b, n, d = x.shape
        query, key, value = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value)
        return self.proj(found.transpose(1, 2).reshape(b, n, d))


class DiT(nn.Module):
    """Images (B, C, S, S), times (B,), conditions (B, K) to velocities."""

    def __init__(self, variant: str, side: int, patch: int, channels: int, conds: int):
        super().__init__()
        width, depth, heads = SIZES[variant]
        self.patch, self.grid = patch, side // patch
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.register_buffer("places", torch.randn(1, self.grid**2, width))
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.cond, self.none = nn.Linear(conds, width, bias=False), nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, patch * patch * channels)

    def forward(
        self, images: torch.Tensor, times: torch.Tensor, conds: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        omega = torch.exp(-math.log(10_000) * torch.arange(128, device=times.device) / 128)
        angles = 1000 * times[:, None] * omega
        vector = self.time(torch.cat([torch.cos(angles), torch.sin(angles)], dim=1))
        vector = vector + torch.where(known[:, None], self.cond(conds), self.none)
        x = self.embed(images).flatten(2).transpose(1, 2) + self.places
        for block in self.blocks:
            x = block(x, vector)
        shift, scale = self.modulation(F.silu(vector)).chunk(2, dim=1)
        x = self.output(modulate(self.norm(x), shift, scale))
        x = x.reshape(len(x), self.grid, self.grid, self.patch, self.patch, -1)
        side = self.grid * self.patch
        return x.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, side, side)


class Case:
    """A model with its constant batch, and the two calls that are timed."""

    def __init__(self, variant: str, batch: int, side: int, patch: int, channels: int, conds: int):
        self.gpu = torch.cuda.is_available()
        self.device = "cuda" if self.gpu else "cpu"
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high" if self.gpu else "highest")
        self.model = DiT(variant, side, patch, channels, conds).to(self.device)
        decay = {"lr": 1e-4, "weight_decay": 0.0, "fused": True}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), **decay)
        self.images = torch.randn(batch, channels, side, side, device=self.device)
        classes = torch.randint(conds, (batch,), device=self.device)
        self.conds = F.one_hot(classes, conds).float()
        self.known = torch.ones(batch, dtype=torch.bool, device=self.device)

    def loss(self, images: torch.Tensor, conds: torch.Tensor) -> torch.Tensor:
        noise, times = torch.randn_like(images), torch.rand(len(images), device=images.device)
        known = torch.rand_like(times) >= HIDDEN
        share = times[:, None, None, None]
        with torch.autocast(self.device, torch.bfloat16, enabled=self.gpu):
            found = self.model((1 - share) * images + share * noise, times, conds, known)
        return F.mse_loss(found.float(), noise - images)

    def velocity(self, images: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.gpu):
            return self.model(images, times, self.conds, self.known).float()

    def step(self, loss_of: Callable[..., torch.Tensor]) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self.images, self.conds)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @torch.inference_mode()
    def sample(self, velocity: Callable[..., torch.Tensor], steps: int) -> torch.Tensor:
        """Euler's method from noise to images; a number of them, which has to be waited for."""
        x = torch.randn_like(self.images)
        for number in range(steps):
            times = torch.full((len(x),), 1 - number / steps, device=x.device)
            x = x - velocity(x, times) / steps
        return x.mean()


class Denoisers(Answers):
    """Requests of `denoiser_speed.py`: "train" and "sample" of a case, by mode."""

    def hello(self) -> dict[str, Any]:
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        threads = torch.get_num_threads()
        return {"torch": torch.__version__, "device": name, "threads": threads}

    def prepare(self, mode: str, sample_steps: int, **sizes: Any) -> dict[str, Any]:
        """Keeps the two calls under "train MODE" and "sample MODE"; both have run once."""
        torch._dynamo.reset()  # another batch must not make the shapes dynamic
        case = Case(**sizes)
        loss, velocity = case.loss, case.velocity
        if mode == "compile":
            loss, velocity = (torch.compile(f, dynamic=False) for f in (loss, velocity))
        self.steps[f"train {mode}"] = functools.partial(case.step, loss)
        self.steps[f"sample {mode}"] = functools.partial(case.sample, velocity, sample_steps)
        for call in (f"train {mode}", f"sample {mode}"):
            for _ in range(3 if case.gpu else 1):
                spent(self.steps[call], 1)
        parameters = sum(x.numel() for x in case.model.parameters())
        peak = torch.cuda.max_memory_allocated() if case.gpu else None
        return {"parameters": parameters, "peak_bytes": peak}


if __name__ == "__main__":
    if "--serve" not in sys.argv:
        sys.exit("denoiser_speed.py asks this; it prints nothing by itself.")
    serve(Denoisers())
