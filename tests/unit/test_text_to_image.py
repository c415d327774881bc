"""The producer of images from captions: its order and faults with a stand-in for the model, and,
where torch and diffusers are installed, the whole way with a tiny pipeline of random weights."""

import argparse
import io
import json
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.text_to_image import captions, command, pipeline
from jaxfdsl.text_to_image.produce import Order, part_of, produce


class Kept:
    """A writer that keeps what it is given in memory."""

    def __init__(self):
        self.rows = []

    def add(self, image, **fields):
        self.rows.append({"image": image, **fields})


def stand_in(texts, seeds):
    """A picture whose colour tells its caption and seed."""
    return [
        Image.new("RGB", (16, 16), (len(text), seed, 0))
        for text, seed in zip(texts, seeds, strict=True)
    ]


def made(order, done=0, batch=4):
    writer = Kept()
    how = {"batch": batch, "size": 8, "format": "png", "source": "stand-in", "start": done}
    return writer.rows, list(produce(stand_in, order, writer, **how))


def test_every_caption_gets_every_seed_once():
    rows, counts = made(Order(["a", "bb", "ccc"], (5, 6)))
    assert [(r["caption"], r["group"], r["seed"]) for r in rows] == [
        ("a", 0, 5), ("a", 0, 6), ("bb", 1, 5), ("bb", 1, 6), ("ccc", 2, 5), ("ccc", 2, 6),
    ]  # fmt: skip
    assert counts == [4, 6]


@pytest.mark.parametrize("done", [0, 1, 5, 6])
def test_a_run_that_goes_on_makes_what_is_missing(done):
    order = Order(["a", "bb", "ccc"], (5, 6))
    assert made(order, done)[0] == made(order)[0][done:]


def test_parts_make_all_captions_once():
    texts = [str(i) for i in range(7)]
    parts = [Order(texts, (0, 1), part, 3) for part in range(3)]
    pairs = [order[i] for order in parts for i in range(len(order))]
    assert sorted(pairs) == [(caption, seed) for caption in range(7) for seed in (0, 1)]


def test_an_image_does_not_hang_on_its_batch():
    order = Order(["a", "bb", "ccc"], (0, 1, 2))
    assert made(order, batch=2)[0] == made(order, batch=9)[0]


class Flagging(pipeline.Diffusion):
    """A model whose checker flags all images of "bb", and the first of the others."""

    def __init__(self, settings, made=None):
        self.settings = settings

    card: ClassVar = {"generator": "stand-in", "guidance": 2.0}

    def _draw(self, captions, seeds, again):
        return stand_in(captions, seeds), [text == "bb" or again < 1 for text in captions]


def test_what_the_checker_always_flags_is_left_out_and_stops_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "Diffusion", Flagging)
    options = asked("stand-in", tmp_path, batch=1, shard_images=1)
    (tmp_path / "captions.txt").write_text("a\nbb\nccc\n")

    def stopped(self, captions, seeds, again):
        if captions[0] == "ccc":
            raise KeyboardInterrupt
        return Flagging._draw(self, captions, seeds, again)

    killed = type("Killed", (Flagging,), {"_draw": stopped})
    monkeypatch.setattr(command, "Diffusion", killed)
    with pytest.raises(KeyboardInterrupt):
        command.run(options)
    monkeypatch.setattr(command, "Diffusion", Flagging)
    command.run(options)
    assert "2 were left out: the model's own checker flags them" in capsys.readouterr().out
    held = store.open(str(tmp_path / "store"))
    assert held.captions(np.arange(4)) == ["a", "a", "ccc", "ccc"]
    assert held.column("group").tolist() == [0, 0, 2, 2] and len(held) == 4
    assert held.column("seed").tolist() == [0, 1, 0, 1]
    command.run(options)  # is whole already
    assert len(store.open(str(tmp_path / "store"))) == 4
    with pytest.raises(ConfigError, match="stored_format"):
        command.run(argparse.Namespace(**{**vars(options), "format": "jpeg"}))


def test_noise_is_of_caption_and_seed():
    seeds = {pipeline.noise_seed(text, seed) for text in "abc" for seed in range(5)}
    assert len(seeds) == 15 and all(0 <= seed < 2**63 for seed in seeds)
    assert pipeline.noise_seed("a fern", 3) == pipeline.noise_seed("a fern", 3)


def test_lines_are_folded_and_those_that_say_nothing_or_again_are_left_out(tmp_path):
    file = tmp_path / "captions.txt"
    file.write_bytes("﻿a  fern\n\n a tree\na fern\n \nein Bäumchen\n".encode())
    found = captions.read(str(file))
    assert found.texts == ("a fern", "a tree", "ein Bäumchen")
    assert (found.empty, found.repeated, found.name) == (2, 1, "captions.txt")


def test_a_csv_has_a_column(tmp_path):
    file = tmp_path / "captions.csv"
    file.write_text('path,caption\nx.jpg,"a fern, green"\ny.jpg,a tree\n')
    assert captions.read(str(file)).texts == ("a fern, green", "a tree")
    with pytest.raises(ConfigError, match="has the columns path, caption: type --column=NAME"):
        captions.read(str(file), "text")


def test_caption_files_that_cannot_be_read_are_refused(tmp_path):
    file = tmp_path / "captions.txt"
    with pytest.raises(ConfigError, match="there is no such file"):
        captions.read(str(file))
    file.write_bytes(b"a fern\nein B\xe4umchen\n")
    with pytest.raises(ConfigError, match="line 2 is not UTF-8"):
        captions.read(str(file))
    file.write_text("\n \n")
    with pytest.raises(ConfigError, match="has no caption"):
        captions.read(str(file))


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "0/0"])
def test_a_part_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="type 0/8"):
        part_of(text)


def test_settings_that_no_pipeline_has_are_refused():
    wrong = {"steps": 0, "guidance": -1.0, "size": 500, "scheduler": "euler", "dtype": "int8"}
    for name, value in wrong.items():
        with pytest.raises(ConfigError, match=f"--{name}="):
            pipeline.Settings("model", **{name: value}).check()
    with pytest.raises(ConfigError, match="--guidance=nan"):
        pipeline.Settings("model", guidance=float("nan")).check()


def test_the_licence_is_known_or_asked_for(tmp_path):
    assert pipeline.licence(pipeline.Settings(str(tmp_path)), "mine") == "mine"
    known = pipeline.Settings("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert pipeline.licence(known, "") == "creativeml-openrail-m"
    with pytest.raises(ConfigError, match="type --licence=NAME"):
        pipeline.licence(pipeline.Settings(str(tmp_path)), "")
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert pipeline.licence(pipeline.Settings(str(tmp_path)), "") == "apache-2.0"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A Stable Diffusion pipeline of random weights, saved as a folder."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny")
    letters = [chr(i) for i in range(97, 123)]
    ids = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(ids)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )
    torch.manual_seed(0)
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(ids), hidden_size=32, intermediate_size=37, num_hidden_layers=1,
            num_attention_heads=4, max_position_embeddings=16, bos_token_id=len(ids) - 2,
            eos_token_id=len(ids) - 1, pad_token_id=len(ids) - 1,
        )
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32),
        layers_per_block=1, norm_num_groups=8, cross_attention_dim=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32, 32), norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet,
        scheduler=diffusers.PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
            skip_prk_steps=True, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder / "model")  # fmt: skip
    return folder / "model"


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)), int)


def asked(tiny, tmp_path, **changes):
    file = tmp_path / "captions.txt"
    if not file.exists():
        file.write_text("a fern\na tree\na leaf\n")
    usual = {
        "captions": str(file), "column": "caption", "out": str(tmp_path / "store"),
        "model": str(tiny), "revision": "", "images_per_caption": 2, "first_seed": 0, "steps": 2,
        "guidance": 2.0, "scheduler": "ddim", "size": 64, "stored_size": 32, "batch": 4,
        "format": "png", "dtype": "auto", "device": "cpu", "part": "0/1", "shard_images": 3,
        "licence": "none: random weights", "no_safety_checker": False,
    }  # fmt: skip
    return argparse.Namespace(**{**usual, **changes})


@pytest.mark.filterwarnings("default")
def test_the_whole_way_from_captions_to_a_store(tiny, tmp_path, capsys):
    command.run(asked(tiny, tmp_path))
    held = store.open(str(tmp_path / "store"))
    assert held.captions(np.arange(6)) == ["a fern"] * 2 + ["a tree"] * 2 + ["a leaf"] * 2
    assert held.column("seed").tolist() == [0, 1] * 3
    assert held.card["licence"] == "none: random weights"
    assert held.card["sampler"] == "DDIMScheduler, eta 0" and held.card["guidance"] == 2
    assert "inherit its biases" in (tmp_path / "store" / "README.md").read_text()
    images = held.read(np.arange(6))
    assert len(set(images)) == 6
    capsys.readouterr()

    # In other batches, and by two processes, the same images are made.
    command.run(asked(tiny, tmp_path, out=str(tmp_path / "parts"), part="1/2", batch=1))
    part = store.open(str(tmp_path / "parts.part-1-of-2"))
    assert part.captions(np.arange(2)) == ["a tree"] * 2
    pixels = [pixels_of(data) for data in part.read([0, 1])]
    whole = [pixels_of(data) for data in images[2:4]]
    assert np.abs(np.stack(pixels) - np.stack(whole)).max() <= 1  # a batch may round otherwise


@pytest.mark.filterwarnings("default")
def test_guidance_of_one_is_the_conditional_model(tiny):
    first = pipeline.Settings(str(tiny), guidance=1.0, steps=2, size=64, device="cpu")
    pictures = pipeline.Diffusion(first)(["a fern"], [0])
    other = pipeline.Settings(str(tiny), guidance=7.5, steps=2, size=64, device="cpu")
    assert pictures[0].size == (64, 64)
    assert pipeline.Diffusion(other)(["a fern"], [0])[0].tobytes() != pictures[0].tobytes()


@pytest.mark.filterwarnings("default")
def test_a_model_that_is_not_there_is_refused(tmp_path):
    pytest.importorskip("diffusers")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        pipeline.Diffusion(pipeline.Settings(str(tmp_path), device="cpu"))


def test_without_torch_the_command_says_what_to_install(monkeypatch):
    import builtins

    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name in ("torch", "diffusers"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r'type pip install "jaxfdsl\[t2i\]"'):
        pipeline.Diffusion(pipeline.Settings("model"))
