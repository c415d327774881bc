"""What the folder of each library holds besides its card: weights, model config, preprocessing."""

import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.export import names
from jaxfdsl.interop.timm import flatten, to_timm
from jaxfdsl.models import variants
from jaxfdsl.models.heads import NORM_EPSILON

Files = dict[str, bytes]
WEIGHTS = "model.safetensors"
_TIMM = {  # timm's name of a variant; `model_args` say the rest
    "vit_ti": "vit_tiny_patch16_224",
    "vit_s": "vit_small_patch16_224",
    "vit_b": "vit_base_patch16_224",
    "vit_l": "vit_large_patch16_224",
    "vit_h": "vit_huge_patch14_224",
    "vit_g": "vit_giant_patch14_224",
}
_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers


@dataclasses.dataclass(frozen=True)
class Weights:
    """What is exported: a run's config, its parameters without our own heads, and their origin."""

    config: ConfigDict
    params: Mapping[str, Any]
    provenance: str

    @property
    def size(self) -> variants.Variant:
        """The trunk's size."""
        m = self.config.model
        return variants.resolve(m.variant, m.width, m.depth, m.num_heads, m.mlp_ratio)

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier; 0 without one."""
        return self.params["head"]["bias"].shape[0] if "head" in self.params else 0

    @property
    def crop_fraction(self) -> float:
        """The centre crop's side over the image's, as the run's first evaluation has it."""
        return next((entry.crop_fraction for entry in self.config.evals.values()), 1.0)

    @property
    def model_args(self) -> dict[str, Any]:
        """The arguments with which timm makes this model."""
        mean, size = self.config.model.pool == "mean", self.size
        return {
            "img_size": self.config.model.image_size,
            "patch_size": self.config.model.patch_size,
            "embed_dim": size.width,
            "depth": size.depth,
            "num_heads": size.num_heads,
            "mlp_ratio": size.mlp_ratio,
            "class_token": not mean,
            "global_pool": "avg" if mean else "token",
            "fc_norm": mean,
        }

    @property
    def architecture(self) -> str:
        """timm's name of the nearest published model."""
        return _TIMM[self.config.model.variant]


def timm(weights: Weights) -> Files:
    """A folder for `timm.create_model("local-dir:...")`, and for transformers from 4.49 on."""
    _needs_their_epsilon(weights, "timm")
    config = weights.config
    side = config.model.image_size
    pretrained = {
        "custom_load": False,
        "input_size": [3, side, side],
        "fixed_input_size": True,
        "interpolation": config.augment.interpolation,
        "crop_pct": weights.crop_fraction,
        "crop_mode": "center",
        "mean": list(config.augment.mean),
        "std": list(config.augment.std),
        "num_classes": weights.num_classes,
        "pool_size": None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    model = {
        "architecture": weights.architecture,
        "num_classes": weights.num_classes,
        "num_features": weights.size.width,
        "global_pool": weights.model_args["global_pool"],
        "model_args": weights.model_args,
        "pretrained_cfg": pretrained,
    }
    processor = {"image_processor_type": "TimmWrapperImageProcessor"}
    return _folder(weights, to_timm(weights.params), model, processor)


def huggingface(weights: Weights) -> Files:
    """A folder for transformers' `ViTForImageClassification`, or `ViTModel` without a head."""
    _needs_class_token(weights, "huggingface", "transformers' ViT knows no mean pooling")
    size, labels = weights.size, [f"LABEL_{i}" for i in range(weights.num_classes)]
    model = {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification" if labels else "ViTModel"],
        "hidden_size": size.width,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.num_heads,
        "intermediate_size": int(size.width * size.mlp_ratio),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": weights.config.model.norm_epsilon,
        "image_size": weights.config.model.image_size,
        "patch_size": weights.config.model.patch_size,
        "num_channels": 3,
        "qkv_bias": True,
    }
    if labels:
        model["id2label"] = {str(i): label for i, label in enumerate(labels)}
        model["label2id"] = {label: i for i, label in enumerate(labels)}
    return _folder(weights, names.to_huggingface(weights.params), model, _processor(weights.config))


def big_vision(weights: Weights) -> Files:
    """An .npz as big_vision's ViT reads it; config.json has the arguments of its `vit.Model`."""
    why = "its ViT takes the last norm before the mean, this model after it"
    _needs_class_token(weights, "big_vision", why)
    _needs_their_epsilon(weights, "big_vision")
    size, patch = weights.size, weights.config.model.patch_size
    model = {
        "num_classes": weights.num_classes or None,
        "patch_size": [patch, patch],
        "width": size.width,
        "depth": size.depth,
        "mlp_dim": int(size.width * size.mlp_ratio),
        "num_heads": size.num_heads,
        "posemb": "learn",
        "pool_type": "tok",
    }
    packed = io.BytesIO()
    np.savez(packed, **names.to_big_vision(weights.params))  # type: ignore[arg-type]
    made = _folder(weights, {}, model, _processor(weights.config))
    made.pop(WEIGHTS)
    return {"model.npz": packed.getvalue(), **made}


def ours(weights: Weights) -> Files:
    """Our own names, bit for bit, joined by slashes; config.json is the run's."""
    config = json.loads(config_lib.to_json(weights.config))
    arrays = {name: np.ascontiguousarray(x) for name, x in flatten(weights.params).items()}
    return _folder(weights, arrays, config, _processor(weights.config))


LAYOUTS: dict[str, Callable[[Weights], Files]] = {
    "timm": timm,
    "huggingface": huggingface,
    "big_vision": big_vision,
    "safetensors": ours,
}


def _folder(
    weights: Weights, arrays: names.Arrays, model: dict[str, Any], processor: dict[str, Any]
) -> Files:
    metadata = {"format": "pt", "provenance": weights.provenance}
    return {
        WEIGHTS: safetensors.numpy.save(arrays, metadata=metadata),
        "config.json": _json(model),
        "preprocessor_config.json": _json(processor),
    }


def _processor(config: ConfigDict) -> dict[str, Any]:
    side = config.model.image_size
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": _RESAMPLE[config.augment.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.augment.mean),
        "image_std": list(config.augment.std),
    }


def _needs_class_token(weights: Weights, to: str, why: str) -> None:
    if weights.config.model.pool == "mean":
        raise ConfigError(
            f"--to={to} cannot hold a model with model.pool='mean' ({why}): type --to=timm, which "
            "timm and transformers both load."
        )


def _needs_their_epsilon(weights: Weights, to: str) -> None:
    """Of the layouts whose files cannot say it."""
    epsilon = weights.config.model.norm_epsilon
    if epsilon != NORM_EPSILON:
        other = "safetensors" if weights.config.model.pool == "mean" else "huggingface"
        raise ConfigError(
            f"--to={to} cannot hold a model with model.norm_epsilon={epsilon}, as layer norms have "
            f"{NORM_EPSILON} there: type --to={other}."
        )


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
