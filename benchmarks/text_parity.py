"""Does our text tower put out what transformers' CLIP does from the same weights?

    python benchmarks/text_parity.py make DIR     # where jaxfdsl is installed
    python benchmarks/text_parity.py check DIR    # where transformers is, with torch

`make` writes a tower of CLIP ViT-B's size (12 x 512, 49,408 ids) with every parameter moved off its
start, token ids and what we make of them; `check` puts the weights into transformers'
`CLIPTextModelWithProjection`, prints a table and writes DIR/text_parity.json.
"""

import json
import pathlib
import sys

import numpy as np

ASKED = 1e-5  # of embeddings of unit length


def make(folder: pathlib.Path) -> None:
    """Weights, ids and our embeddings, as one npz."""
    import jax

    from jaxfdsl.models import text

    design = text.TextDesign(512, 12, 8, 77, 49408, 512, np.dtype("float32"))
    tower = text.build(design)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: np.asarray(x) + 0.01 * rng.standard_normal(x.shape, np.float32),
        jax.jit(tower.init)(jax.random.key(0)),
    )
    ids = np.zeros((6, 77), np.int32)
    for row, length in zip(ids, (1, 5, 12, 40, 75, 75), strict=True):
        row[: length + 2] = [49406, *rng.integers(0, 49406, length), 49407]
    found = jax.jit(tower.apply)(params, ids)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {"/".join(entry.key for entry in path): value for path, value in leaves}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "text.npz", ids=ids, found=found, **named)


def check(folder: pathlib.Path) -> bool:
    """Whether the largest difference is within what is asked for."""
    import torch
    import transformers

    data = dict(np.load(folder / "text.npz"))
    kind = transformers.CLIPTextConfig
    config = kind(
        vocab_size=49408, hidden_size=512, intermediate_size=2048, projection_dim=512,
        num_hidden_layers=12, num_attention_heads=8, max_position_embeddings=77,
        hidden_act="quick_gelu", layer_norm_eps=1e-5, bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip
    model = transformers.CLIPTextModelWithProjection(config).eval()
    state = {
        "text_model.embeddings.token_embedding.weight": data["token_embed"],
        "text_model.embeddings.position_embedding.weight": data["pos_embed"],
        "text_model.final_layer_norm.weight": data["norm/scale"],
        "text_model.final_layer_norm.bias": data["norm/bias"],
        "text_projection.weight": data["projection"].T,
    }
    for i in range(12):
        ours, theirs = f"blocks_{i}/", f"text_model.encoder.layers.{i}."
        for a, b in (("norm1", "layer_norm1"), ("norm2", "layer_norm2")):
            state[f"{theirs}{b}.weight"] = data[f"{ours}{a}/scale"]
            state[f"{theirs}{b}.bias"] = data[f"{ours}{a}/bias"]
        for j, name in enumerate(("q_proj", "k_proj", "v_proj")):
            kernel, bias = (data[f"{ours}attn/qkv/{part}"] for part in ("kernel", "bias"))
            state[f"{theirs}self_attn.{name}.weight"] = kernel[:, j].reshape(512, 512).T
            state[f"{theirs}self_attn.{name}.bias"] = bias[j].reshape(512)
        state[f"{theirs}self_attn.out_proj.weight"] = (
            data[f"{ours}attn/proj/kernel"].reshape(512, 512).T
        )
        state[f"{theirs}self_attn.out_proj.bias"] = data[f"{ours}attn/proj/bias"]
        for name in ("fc1", "fc2"):
            state[f"{theirs}mlp.{name}.weight"] = data[f"{ours}mlp/{name}/kernel"].T
            state[f"{theirs}mlp.{name}.bias"] = data[f"{ours}mlp/{name}/bias"]
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in state.items()}
    left = model.load_state_dict(tensors, strict=False)
    assert not left.unexpected_keys and all("position_ids" in k for k in left.missing_keys), left
    with torch.no_grad():
        theirs = model(input_ids=torch.from_numpy(data["ids"]).long()).text_embeds.numpy()
    length = np.linalg.norm(theirs, axis=1, keepdims=True)
    worst = float(np.abs((theirs - data["found"]) / length).max())
    print(f"{'captions':>8} {'largest difference':>20} {'asked':>8}")
    print(f"{len(theirs):>8} {worst:>20.2e} {ASKED:>8.0e}")
    (folder / "text_parity.json").write_text(json.dumps({"largest_difference": worst}))
    return worst <= ASKED


if __name__ == "__main__":
    verb, place = sys.argv[1], pathlib.Path(sys.argv[2])
    if verb == "make":
        make(place)
    elif not check(place):
        sys.exit("the towers differ")
