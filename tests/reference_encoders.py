"""Tiny weights in the layouts of published encoders, and their vectors computed in NumPy, float64,
a formula at a time, as torch's modules are documented.
"""

import math
import zlib

import numpy as np

D, HEADS, DEPTH, PATCH, SIZE, HIDDEN = 16, 2, 2, 4, 12, 24
BLOCKS = {  # stems of a block's arrays, in the order in which `reference` reads them
    "dinov2": "norm1 attention.attention.query attention.attention.key attention.attention.value "
    "attention.output.dense layer_scale1.lambda1 norm2 mlp.fc1 mlp.fc2 layer_scale2.lambda1",
    "dinov3": "norm1 attention.q_proj attention.k_proj attention.v_proj attention.o_proj "
    "layer_scale1.lambda1 norm2 mlp.gate_proj mlp.up_proj mlp.down_proj layer_scale2.lambda1",
    "clip": "layer_norm1 self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.out_proj "
    "layer_norm2 mlp.fc1 mlp.fc2",
}
BLOCKS["siglip"] = BLOCKS["clip"]
PLACE = {
    "dinov2": "encoder.layer.{}.",
    "dinov3": "layer.{}.",
    "clip": "vision_model.encoder.layers.{}.",
    "siglip": "vision_model.encoder.layers.{}.",
}
ENDS = {
    "dinov2": {
        "embeddings.cls_token": (1, 1, D),
        "embeddings.mask_token": (1, D),
        "embeddings.position_embeddings": (1, 10, D),
        "embeddings.patch_embeddings.projection.weight": (D, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (D,),
        "layernorm.weight": (D,),
        "layernorm.bias": (D,),
    },
    "dinov3": {
        "embeddings.cls_token": (1, 1, D),
        "embeddings.mask_token": (1, 1, D),
        "embeddings.register_tokens": (1, 4, D),
        "embeddings.patch_embeddings.weight": (D, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.bias": (D,),
        "norm.weight": (D,),
        "norm.bias": (D,),
    },
    "clip": {
        "logit_scale": (),
        "text_model.final_layer_norm.weight": (8,),
        "text_projection.weight": (6, 8),
        "visual_projection.weight": (6, D),
        "vision_model.embeddings.position_ids": (1, 10),
        "vision_model.embeddings.class_embedding": (D,),
        "vision_model.embeddings.position_embedding.weight": (10, D),
        "vision_model.embeddings.patch_embedding.weight": (D, 3, PATCH, PATCH),
        "vision_model.pre_layrnorm.weight": (D,),
        "vision_model.pre_layrnorm.bias": (D,),
        "vision_model.post_layernorm.weight": (D,),
        "vision_model.post_layernorm.bias": (D,),
    },
    "siglip": {
        "logit_bias": (1,),
        "vision_model.embeddings.position_embedding.weight": (9, D),
        "vision_model.embeddings.patch_embedding.weight": (D, 3, PATCH, PATCH),
        "vision_model.embeddings.patch_embedding.bias": (D,),
        "vision_model.post_layernorm.weight": (D,),
        "vision_model.post_layernorm.bias": (D,),
        "vision_model.head.probe": (1, 1, D),
        "vision_model.head.attention.in_proj_weight": (3 * D, D),
        "vision_model.head.attention.in_proj_bias": (3 * D,),
        "vision_model.head.attention.out_proj.weight": (D, D),
        "vision_model.head.attention.out_proj.bias": (D,),
        "vision_model.head.layernorm.weight": (D,),
        "vision_model.head.layernorm.bias": (D,),
        "vision_model.head.mlp.fc1.weight": (HIDDEN, D),
        "vision_model.head.mlp.fc1.bias": (HIDDEN,),
        "vision_model.head.mlp.fc2.weight": (D, HIDDEN),
        "vision_model.head.mlp.fc2.bias": (D,),
    },
}


def state_of(family):
    """Arrays by their names in a folder of transformers', each a function of its name."""
    shapes = dict(ENDS[family])
    for i in range(DEPTH):
        for stem in BLOCKS[family].split():
            name = PLACE[family].format(i) + stem
            if "lambda1" in stem:
                shapes[name] = (D,)
            elif "norm" in stem:
                shapes |= {f"{name}.weight": (D,), f"{name}.bias": (D,)}
            else:
                wide = stem in ("mlp.fc1", "mlp.gate_proj", "mlp.up_proj")
                into = HIDDEN if stem in ("mlp.fc2", "mlp.down_proj") else D
                out = HIDDEN if wide else D
                shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    if family == "dinov3":
        shapes = {n: s for n, s in shapes.items() if not n.endswith("k_proj.bias")}

    def array(name, shape):
        value = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.3, shape)
        return np.asarray(value + ("norm" in name and "weight" in name), np.float32)

    return {name: array(name, shape) for name, shape in shapes.items()}


def reference(family, state, images, mean, std):
    """Class token and all tokens behind the blocks, and the state, in float64: torch's formulas."""
    w = {n.removeprefix("vision_model."): np.asarray(x, np.float64) for n, x in state.items()}
    pixels = (images / 255 - np.array(mean)) / np.array(std)
    patch = next(x for n, x in w.items() if "patch_embed" in n and x.ndim == 4)
    x = np.zeros((len(images), 9, D)) + next(
        (v for n, v in w.items() if "patch_embed" in n and v.ndim == 1), 0
    )
    for row in range(3):
        for column in range(3):
            cut = pixels[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            x[:, 3 * row + column] += np.einsum("bhwc,ochw->bo", cut, patch)
    if family != "siglip":
        names = ("embeddings.cls_token", "embeddings.class_embedding")
        token = next(w[n] for n in names if n in w).reshape(1, 1, D)
        x = np.concatenate([np.repeat(token, len(x), 0), x], axis=1)
    if family != "dinov3":
        x = x + next(v for n, v in w.items() if "position_embed" in n).reshape(1, -1, D)
    else:
        registers = np.repeat(w["embeddings.register_tokens"], len(x), 0)
        x = np.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)
    epsilon = 1e-5 if family in ("dinov3", "clip") else 1e-6
    if family == "clip":
        x = norm(w, "pre_layrnorm", x, epsilon)
    for i in range(DEPTH):
        place = PLACE[family].format(i).removeprefix("vision_model.")
        x = block(family, w, [place + stem for stem in BLOCKS[family].split()], x, epsilon)
    return x, w, epsilon


def norm(w, name, x, epsilon):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def attended(q, k, v):
    """Head by head."""
    out = []
    for h in range(HEADS):
        one = slice(h * D // HEADS, (h + 1) * D // HEADS)
        logits = q[..., one] @ k[..., one].swapaxes(1, 2) / math.sqrt(D // HEADS)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        out.append(weights / weights.sum(-1, keepdims=True) @ v[..., one])
    return np.concatenate(out, axis=-1)


def turned(x):
    """Patches (row, column) of 3 x 3 behind 5 other tokens, as complex numbers: a head's channels c
    and c + 4 are one, and turn by 2 pi (2 (i + 1/2) / 3 - 1) theta^-(c / 2)."""
    out = x.copy()
    for n in range(9):
        where = [2 * (place + 0.5) / 3 - 1 for place in divmod(n, 3)]
        for h in range(HEADS):
            for c in range(4):
                angle = 2 * math.pi * where[c // 2] * 100.0 ** -((c % 2) / 2)
                a, b = h * 8 + c, h * 8 + c + 4
                z = (x[:, 5 + n, a] + 1j * x[:, 5 + n, b]) * np.exp(1j * angle)
                out[:, 5 + n, a], out[:, 5 + n, b] = z.real, z.imag
    return out


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def gelu_tanh(x):
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def block(family, w, names, x, epsilon):
    norm1, q, k, v, out, *names = names
    scale1 = w[names.pop(0)] if family.startswith("dino") else 1.0
    scale2 = w[names.pop()] if family.startswith("dino") else 1.0
    y = norm(w, norm1, x, epsilon)
    q, k, v = (linear(w, name, y) for name in (q, k, v))
    if family == "dinov3":
        q, k = turned(q), turned(k)
    x = x + scale1 * linear(w, out, attended(q, k, v))
    norm2, *names = names
    y = norm(w, norm2, x, epsilon)
    if family == "dinov3":
        gate, y = linear(w, names[0], y), linear(w, names[1], y)
        y = gate * sigmoid(gate) * y
    else:
        y = linear(w, names[0], y)
        quick = {"dinov2": gelu, "siglip": gelu_tanh}
        y = quick[family](y) if family in quick else y * sigmoid(1.702 * y)
    return x + scale2 * linear(w, names[-1], y)


def pooled(w, x, epsilon):
    """SigLIP's head."""
    x = norm(w, "post_layernorm", x, epsilon)
    kernels = np.split(w["head.attention.in_proj_weight"], 3)
    biases = np.split(w["head.attention.in_proj_bias"], 3)
    probe = np.repeat(w["head.probe"], len(x), 0)
    q, k, v = (y @ a.T + b for y, a, b in zip((probe, x, x), kernels, biases, strict=True))
    x = linear(w, "head.attention.out_proj", attended(q, k, v))
    y = gelu_tanh(linear(w, "head.mlp.fc1", norm(w, "head.layernorm", x, epsilon)))
    return (x + linear(w, "head.mlp.fc2", y))[:, 0]


def dinov2s_own(state):
    """The same weights under the names of its own code."""
    made, pairs = {}, {".layer_scale": ".ls", ".lambda1": ".gamma", "encoder.layer.": "blocks."}
    pairs |= {"attention.output.dense": "attn.proj", "layernorm.": "norm.", "embeddings.": ""}
    pairs |= {"patch_projection": "patch_embed.proj", "position_": "pos_"}
    for name, value in state.items():
        if ".query." in name:
            parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
            name = name.replace("attention.attention.query", "attn.qkv")
            value = np.concatenate(parts)
        for theirs, own in pairs.items():
            name = name.replace(theirs, own)
        made["pos_embed" if name.startswith("pos_") else name] = value
    return {name: value for name, value in made.items() if ".attention." not in name}


def big_visions(state):
    """The same weights as big_vision's arrays."""
    w = {name.removeprefix("vision_model."): value for name, value in state.items()}
    kernels = np.split(w["head.attention.in_proj_weight"], 3)
    biases = np.split(w["head.attention.in_proj_bias"], 3)
    for part, kernel, bias in zip("qkv", kernels, biases, strict=True):
        name = f"head.attention.{part}_proj"
        w |= {f"{name}.weight": kernel, f"{name}.bias": bias}
    made = {
        "MAPHead_0/probe": w["head.probe"],
        "pos_embedding": w["embeddings.position_embedding.weight"][None],
        "embedding/kernel": w["embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": w["embeddings.patch_embedding.bias"],
        "Transformer/encoder_norm/scale": w["post_layernorm.weight"],
        "Transformer/encoder_norm/bias": w["post_layernorm.bias"],
    }
    head = ("MAPHead_0", "head", "attention", ["layernorm"])
    layers = [f"encoder.layers.{i}" for i in range(DEPTH)]
    for own, place, inside, norms in [head] + [
        (f"Transformer/encoderblock_{i}", place, "self_attn", ["layer_norm1", "layer_norm2"])
        for i, place in enumerate(layers)
    ]:
        for i, name in enumerate(norms):
            made[f"{own}/LayerNorm_{i}/scale"] = w[f"{place}.{name}.weight"]
            made[f"{own}/LayerNorm_{i}/bias"] = w[f"{place}.{name}.bias"]
        for i in range(2):
            made[f"{own}/MlpBlock_0/Dense_{i}/kernel"] = w[f"{place}.mlp.fc{i + 1}.weight"].T
            made[f"{own}/MlpBlock_0/Dense_{i}/bias"] = w[f"{place}.mlp.fc{i + 1}.bias"]
        own = f"{own}/MultiHeadDotProductAttention_0"
        for part in ("query", "key", "value"):
            name = f"{place}.{inside}.{part[0]}_proj"
            made[f"{own}/{part}/kernel"] = w[f"{name}.weight"].T.reshape(D, HEADS, -1)
            made[f"{own}/{part}/bias"] = w[f"{name}.bias"].reshape(HEADS, -1)
        out = f"{place}.{inside}.out_proj"
        made[f"{own}/out/kernel"] = w[f"{out}.weight"].T.reshape(HEADS, -1, D)
        made[f"{own}/out/bias"] = w[f"{out}.bias"]
    return {f"params/img/{name}": x for name, x in made.items()} | {"params/t": np.ones(1)}
