"""Stable Diffusion's autoencoder in NumPy, from the description of `AutoencoderKL` in diffusers, on
the arrays of a file as PyTorch has them: one image (C, H, W), one group norm at a time.
"""

from collections.abc import Mapping

import numpy as np

State = Mapping[str, np.ndarray]


class Reference:
    """The two functions of a file's arrays; `levels` resolutions, `layers` blocks in each."""

    def __init__(self, state: State, levels: int, layers: int, groups: int):
        self.state = {name: value.astype(np.float64) for name, value in state.items()}
        self.levels, self.layers, self.groups = levels, layers, groups

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Mean and logarithm of the variance, one behind the other, (2 C, h, w)."""
        x = self.conv("encoder.conv_in", image)
        for i in range(self.levels):
            for j in range(self.layers):
                x = self.resnet(f"encoder.down_blocks.{i}.resnets.{j}", x)
            if i < self.levels - 1:  # nothing is above or left of the image, zeros are behind it
                x = np.pad(x, ((0, 0), (0, 1), (0, 1)))
                x = self.conv(f"encoder.down_blocks.{i}.downsamplers.0.conv", x, 2, 0)
        return self.conv("quant_conv", self.end("encoder", self.middle("encoder", x)), 1, 0)

    def decode(self, latent: np.ndarray) -> np.ndarray:
        """The image of a latent."""
        x = self.conv("decoder.conv_in", self.conv("post_quant_conv", latent, 1, 0))
        x = self.middle("decoder", x)
        for i in range(self.levels):
            for j in range(self.layers + 1):
                x = self.resnet(f"decoder.up_blocks.{i}.resnets.{j}", x)
            if i < self.levels - 1:
                twice = np.kron(x, np.ones((1, 2, 2)))
                x = self.conv(f"decoder.up_blocks.{i}.upsamplers.0.conv", twice)
        return self.end("decoder", x)

    def middle(self, part: str, x: np.ndarray) -> np.ndarray:
        x = self.resnet(f"{part}.mid_block.resnets.0", x)
        x = self.attend(f"{part}.mid_block.attentions.0", x)
        return self.resnet(f"{part}.mid_block.resnets.1", x)

    def end(self, part: str, x: np.ndarray) -> np.ndarray:
        return self.conv(f"{part}.conv_out", silu(self.norm(f"{part}.conv_norm_out", x)))

    def resnet(self, name: str, x: np.ndarray) -> np.ndarray:
        hidden = self.conv(f"{name}.conv1", silu(self.norm(f"{name}.norm1", x)))
        hidden = self.conv(f"{name}.conv2", silu(self.norm(f"{name}.norm2", hidden)))
        short = f"{name}.conv_shortcut"
        return hidden + (self.conv(short, x, 1, 0) if f"{short}.weight" in self.state else x)

    def attend(self, name: str, x: np.ndarray) -> np.ndarray:
        """(D, H, W) + the mean over places j of v_j, weighted by exp(q_i k_j / sqrt(D))."""
        tokens = self.norm(f"{name}.group_norm", x).reshape(len(x), -1).T
        query, key, value = (self.linear(f"{name}.to_{part}", tokens) for part in "qkv")
        weight = np.exp(query @ key.T / np.sqrt(len(x)))
        weight /= weight.sum(axis=1, keepdims=True)
        return x + self.linear(f"{name}.to_out.0", weight @ value).T.reshape(x.shape)

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        parts = x.reshape(self.groups, -1)
        mean, variance = parts.mean(axis=1, keepdims=True), parts.var(axis=1, keepdims=True)
        plain = ((parts - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
        scale, bias = (self.state[f"{name}.{leaf}"] for leaf in ("weight", "bias"))
        return plain * scale[:, None, None] + bias[:, None, None]

    def conv(self, name: str, x: np.ndarray, stride: int = 1, around: int = 1) -> np.ndarray:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        x = np.pad(x, ((0, 0), (around, around), (around, around)))
        sides = weight.shape[2:]
        seen = np.lib.stride_tricks.sliding_window_view(x, sides, axis=(1, 2))
        seen = seen[:, ::stride, ::stride]
        return np.einsum("ihwyx,oiyx->ohw", seen, weight) + bias[:, None, None]


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))
