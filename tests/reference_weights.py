"""What timm and transformers compute with weights that anybody can make: `golden/weights.json`.

    python -m tests.reference_weights   # needs "jaxfdsl[interop]": torch, timm, transformers

A weight is a function of its name and shape, so that the file holds names, shapes and logits alone.
"""

import json
import pathlib
import zlib

import numpy as np

FILE = pathlib.Path(__file__).parent / "golden" / "weights.json"
IMAGE, PATCH, WIDTH, DEPTH, HEADS, CLASSES = 24, 8, 24, 2, 3, 7


def array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in +-0.4, norms' scales and LayerScale around 1; no value is a special one."""
    values = np.random.default_rng(zlib.crc32(name.encode())).random(shape) * 0.8 - 0.4
    around_one = "norm" in name and name.endswith(("weight", "scale"))
    around_one |= "gamma" in name or "lambda" in name
    return (values + around_one).astype(np.float32)


def images() -> np.ndarray:
    """Float32 (3, 24, 24, 3) in +-2."""
    values = np.random.default_rng(1).random((3, IMAGE, IMAGE, 3)) * 4 - 2
    return values.astype(np.float32)


def state_of(case: dict) -> dict[str, np.ndarray]:
    """The weights of one case of the file."""
    return _filled(case["shapes"], case.get("embeddings", 1.0))


def _filled(shapes, embeddings: float = 1.0) -> dict[str, np.ndarray]:
    """`embeddings` times what stands before the first norm."""
    return {
        name: array(name, tuple(shape)) * np.float32(embeddings if "embeddings" in name else 1)
        for name, shape in shapes.items()
    }


def timm_vit(**options):
    """A small `VisionTransformer` of timm."""
    from timm.models.vision_transformer import VisionTransformer

    size = {"img_size": IMAGE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH}
    return VisionTransformer(**size, num_heads=HEADS, num_classes=CLASSES, **options)


def _case(model, shapes=None) -> dict:
    """Logits of a torch model; without `shapes` it is filled first."""
    import torch

    if shapes is None:
        shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
        filled = {name: torch.from_numpy(array(name, shape)) for name, shape in shapes.items()}
        model.load_state_dict(filled, strict=True)
    with torch.no_grad():
        out = model.eval()(torch.from_numpy(images().transpose(0, 3, 1, 2).copy()))
    if hasattr(out, "pooler_output"):  # DINOv2's: the class token behind the last norm
        return {"shapes": shapes, "features": np.round(out.pooler_output.double(), 7).tolist()}
    logits = getattr(out, "logits", out).numpy().astype(float)
    return {"shapes": shapes, "logits": np.round(logits, 7).tolist()}


def _big_vision() -> dict:
    """timm's own reading of such a file: exact GELU, positions without a class token's row."""
    import tempfile

    block, shapes = "Transformer/encoderblock_{}/", {}
    head = WIDTH // HEADS
    shapes |= {"cls": (1, 1, WIDTH), "pos_embedding": (1, (IMAGE // PATCH) ** 2, WIDTH)}
    shapes |= {"embedding/kernel": (PATCH, PATCH, 3, WIDTH), "embedding/bias": (WIDTH,)}
    for i in range(DEPTH):
        for norm in ("LayerNorm_0", "LayerNorm_1"):
            shapes |= {f"{block.format(i)}{norm}/{leaf}": (WIDTH,) for leaf in ("scale", "bias")}
        attention = block.format(i) + "MultiHeadDotProductAttention_0/"
        for part in ("query", "key", "value"):
            shapes |= {f"{attention}{part}/kernel": (WIDTH, HEADS, head)}
            shapes |= {f"{attention}{part}/bias": (HEADS, head)}
        shapes |= {f"{attention}out/kernel": (HEADS, head, WIDTH), f"{attention}out/bias": (WIDTH,)}
        mlp = block.format(i) + "MlpBlock_0/"
        shapes |= {f"{mlp}Dense_0/kernel": (WIDTH, 4 * WIDTH), f"{mlp}Dense_0/bias": (4 * WIDTH,)}
        shapes |= {f"{mlp}Dense_1/kernel": (4 * WIDTH, WIDTH), f"{mlp}Dense_1/bias": (WIDTH,)}
    shapes |= {f"Transformer/encoder_norm/{leaf}": (WIDTH,) for leaf in ("scale", "bias")}
    shapes |= {"head/kernel": (WIDTH, CLASSES), "head/bias": (CLASSES,)}
    model = timm_vit(no_embed_class=True)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/weights.npz"
        # timm knows big_vision's layout from vit_jax's by the prefix.
        np.savez(path, **{f"params/{name}": array(name, shape) for name, shape in shapes.items()})
        model.load_pretrained(path)
    return _case(model, shapes)


def main() -> None:
    """Writes the file."""
    import timm
    import torch
    import transformers

    size = {"image_size": IMAGE, "patch_size": PATCH, "hidden_size": WIDTH}
    size |= {"num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "num_labels": CLASSES}
    vit = transformers.ViTForImageClassification(
        transformers.ViTConfig(**size, intermediate_size=4 * WIDTH)
    )
    cases = {
        "token": _case(timm_vit()),
        "mean": _case(timm_vit(class_token=False, global_pool="avg")),
        "dinov2": _case(timm_vit(init_values=1e-5)),
        "huggingface": _huggingface(vit),
        # The first norm sees a variance of about 1e-7, where its epsilon of 1e-12 counts.
        "huggingface small": _huggingface(vit, embeddings=1e-3),
        "huggingface dinov2": _huggingface(
            transformers.Dinov2Model(transformers.Dinov2Config(**size))
        ),
        "big_vision": _big_vision(),
    }
    versions = {m.__name__: m.__version__ for m in (timm, torch, transformers)}
    FILE.write_text(json.dumps({"versions": versions, "cases": cases}, separators=(",", ":")))


def _huggingface(model, embeddings: float = 1.0) -> dict:
    """By way of a folder, whose names are not those of the model in memory."""
    import tempfile

    import safetensors.numpy

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path = f"{folder}/model.safetensors"
        shapes = {name: x.shape for name, x in safetensors.numpy.load_file(path).items()}
        safetensors.numpy.save_file(_filled(shapes, embeddings), path, metadata={"format": "pt"})
        made = _case(type(model).from_pretrained(folder), shapes)
        return made if embeddings == 1 else {**made, "embeddings": embeddings}


if __name__ == "__main__":
    main()
