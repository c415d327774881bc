"""Captions as token ids."""

import numpy as np
import pytest

from jaxfdsl.config import ConfigError
from jaxfdsl.data import tokens


@pytest.fixture
def vocabulary_file(tmp_path):
    """A small byte-pair vocabulary, made by `tokenizers` itself as CLIP's file is."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="?", end_of_word_suffix="</w>"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=60, end_of_word_suffix="</w>", special_tokens=["?"], show_progress=False
    )
    made.train_from_iterator(["a photo of a fern", "a fern of ferns"], trainer)
    made.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    return made, path


def test_bytes_stand_between_start_and_end():
    rows = tokens.Bytes(context=6)(["ab", "", "abcdef"])
    assert rows.tolist() == [
        [256, 97, 98, 257, 0, 0],
        [256, 257, 0, 0, 0, 0],
        [256, 97, 98, 99, 100, 257],
    ]


def test_a_letter_that_is_no_ascii_is_its_utf8_bytes():
    row = tokens.Bytes(context=8)(["é"])[0]
    assert bytes(row[1:3].astype(np.uint8)).decode() == "é"


def test_the_end_is_the_largest_id_and_comes_once(vocabulary_file):
    _, path = vocabulary_file
    captions = ["a fern", "", "a photo of a photo of a photo of a fern"]
    for tokenizer in (tokens.Bytes(context=12), tokens.build(str(path), 12, "x")):
        rows = tokenizer(captions)
        assert rows.shape == (3, 12) and rows.dtype == np.int32
        assert rows.max() == tokenizer.vocabulary - 1
        assert ((rows == tokenizer.vocabulary - 1).sum(1) == 1).all()


def test_a_vocabulary_gives_the_ids_of_its_own_library(vocabulary_file):
    made, path = vocabulary_file
    row = tokens.build(str(path), 16, "x")(["A photo of ferns"])[0]
    ids = made.encode("A photo of ferns").ids
    start, end = made.token_to_id("<|startoftext|>"), made.token_to_id("<|endoftext|>")
    assert row[: len(ids) + 2].tolist() == [start, *ids, end]


def test_two_files_have_two_identities(vocabulary_file, tmp_path):
    _, path = vocabulary_file
    other = tmp_path / "other.json"
    other.write_text(path.read_text() + "\n")
    first, second = (tokens.build(str(p), 16, "x").identity for p in (path, other))
    assert first != second


@pytest.mark.parametrize("text", ["", "{", '{"version": "1.0"}', "[1, 2]"])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, text):
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"objective.align.tokenizer=.*tokenizer.json, or ''"):
        tokens.build(str(path), 77, "objective.align.tokenizer")


def test_a_path_that_is_not_there_is_refused():
    pytest.importorskip("tokenizers")
    with pytest.raises(ConfigError, match="there is no such file"):
        tokens.build("/nowhere/tokenizer.json", 77, "objective.align.tokenizer")
