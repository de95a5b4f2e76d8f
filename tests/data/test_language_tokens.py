"""Tokens of documents: the text comes back, every character is counted, one token stands before each document."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from fairlead.data.config import DataConfig, TokenizationConfig, vocabulary_for
from fairlead.data.ingest import ingest, localize_sources
from fairlead.data.tokenization import tokenize
from fairlead.errors import ConfigError, DataError
from fairlead.formats import tokens
from fairlead.formats.dataset import read_rows
from fairlead.formats.tokens import TokensManifest
from tests.inference.writing import byte_tokenizer, random_model

STORY = "".join(f"Tale {i}: «Où est l'élève n° {i % 7} ?»\n\n  It was HERE, at 10°C.\n" for i in range(300))


def make(folder: Path, documents: list[str] | str, base: str = "scratch", **settings: Any) -> TokensManifest:
    """Ingest and tokenize one text, or many documents."""
    source = folder / ("source.txt" if isinstance(documents, str) else "source.jsonl")
    folder.mkdir(exist_ok=True)
    if isinstance(documents, str):
        source.write_text(documents)
    else:
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    config = DataConfig.parse({"source": str(source), "task": "language_modeling"})
    ingest(config, localize_sources(config, "x"), folder / "data")
    return tokenize(folder / "data", TokenizationConfig.parse(settings), base, folder / "tokens")


@pytest.mark.parametrize("kind", ["bpe", "character"])
def test_the_text_comes_back_from_its_tokens(kind: str, tmp_path: Path) -> None:
    manifest = make(tmp_path, STORY, kind=kind, vocab_size=300, max_length=16)
    saved = Tokenizer.from_file(str(tmp_path / "tokens" / "tokenizer" / "tokenizer.json"))
    for split in ("train", "validation", "test"):
        text = "".join(text for text, _ in read_rows(tmp_path / "data", split))
        arrays, summary = tokens.open_split(tmp_path / "tokens", manifest, split), manifest.splits[split]
        assert saved.decode(arrays.tokens.tolist(), skip_special_tokens=True) == text
        assert arrays.tokens[0] == manifest.end_token_id and (arrays.tokens == manifest.end_token_id).sum() == 1
        assert (summary.num_characters, summary.num_bytes) == (len(text), len(text.encode()))
        assert summary.num_tokens == len(arrays.tokens) and arrays.num_rows == 1
        assert kind == "bpe" or len(arrays.tokens) == len(text) + 1
    assert (
        saved.encode("Tale 5").ids == AutoTokenizer.from_pretrained(tmp_path / "tokens/tokenizer")("Tale 5").input_ids
    )
    assert (manifest.labels, manifest.max_length, manifest.vocab_size <= 300) == ([], 16, True)


def test_documents_stand_apart(tmp_path: Path) -> None:
    documents = [f"document {i}\nends here" for i in range(50)]
    manifest = make(tmp_path, documents, max_length=8)
    saved = Tokenizer.from_file(str(tmp_path / "tokens" / "tokenizer" / "tokenizer.json"))
    arrays = tokens.open_split(tmp_path / "tokens", manifest, "train")
    assert arrays.num_rows == 40
    assert [saved.decode(arrays.row(i).tolist()[1:]) for i in range(40)] == [
        t for t, _ in read_rows(tmp_path / "data", "train")
    ]
    assert np.array_equal(np.flatnonzero(arrays.tokens == manifest.end_token_id), arrays.offsets[:-1])


def test_the_vocabulary_is_that_of_the_training_split_alone(tmp_path: Path) -> None:
    text = "".join("abc abd\n" if i < 850 else "xyz é\n" for i in range(1000))
    manifest = make(tmp_path, text, kind="character", max_length=16)
    assert manifest.vocab_size == len(set("abcd \n")) + 2
    assert manifest.splits["train"].unknown_token_share == 0 < manifest.splits["test"].unknown_token_share
    bpe = make(tmp_path / "bpe", text, max_length=16)
    assert bpe.splits["test"].unknown_token_share == 0


def test_tokens_repeat_and_a_base_brings_its_own(tmp_path: Path) -> None:
    first, second = (make(tmp_path / name, STORY) for name in "ab")
    assert first == second
    base = tmp_path / "base"
    random_model("gpt2").save_pretrained(base)
    byte_tokenizer().save(str(base / "tokenizer.json"))
    (base / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})
    )
    manifest = make(tmp_path / "c", STORY, base=str(base), max_length=24)
    assert (manifest.end_token_id, manifest.pad_token_id, manifest.vocab_size) == (256, 256, 257)
    assert manifest.splits["train"].num_tokens == (manifest.splits["train"].num_bytes or 0) + 1
    with pytest.raises(ConfigError, match="max_length = 25 is above the 24 positions"):
        make(tmp_path / "d", STORY, base=str(base), max_length=25)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "wordpiece"}, "loses spaces"),
        ({"lowercase": True}, "loses case"),
        ({"vocab_size": 200}, "vocab_size = 200 is too small"),
    ],
)
def test_what_cannot_write_text_is_refused(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(tmp_path, STORY, **settings)


def test_a_text_shorter_than_a_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"max_length: a block of 4096 tokens is more than the training text has \(\d+\)"
    ):
        make(tmp_path, "a few\nwords only\n" * 9, max_length=4096)


def test_the_vocabulary_grows_with_the_text() -> None:
    assert [vocabulary_for(n) for n in (0, 10**6, 10**8, 10**13)] == [320, 704, 4736, 32768]
    with pytest.raises(ConfigError, match="character is for language models"):
        TokenizationConfig(kind="character").resolved("classification")
