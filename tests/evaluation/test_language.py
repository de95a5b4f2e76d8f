"""A language model's evaluation: scores that a hand count gives, the champion beside them, samples in the report."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fairlead.evaluation.language import score_language, score_version
from fairlead.formats import tokens
from fairlead.formats.dataset import read_rows
from fairlead.training.batching.blocks import all_blocks
from tests.data.test_language_tokens import STORY, make
from tests.inference.writing import CONTEXT, END, byte_tokenizer, random_model


def test_scores_are_those_of_every_token_in_its_block(tmp_path: Path) -> None:
    manifest = make(tmp_path, STORY, kind="character", max_length=16)
    arrays, summary = tokens.open_split(tmp_path / "tokens", manifest, "test"), manifest.splits["test"]
    model = random_model()
    found = score_language(model, arrays, summary, 16, "test")
    ids, total = torch.from_numpy(arrays.tokens.astype(np.int64)), 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, 15):
            block = ids[start : start + 16]
            total += float(F.cross_entropy(model(input_ids=block[None]).logits[0, :-1], block[1:], reduction="sum"))
    assert found["loss"] == pytest.approx(total / (len(ids) - 1), rel=1e-4)
    assert found["nats_per_character"] == pytest.approx(total / (summary.num_characters or 0), rel=1e-4)
    assert found["bits_per_byte"] == pytest.approx(total / math.log(2) / (summary.num_bytes or 0), rel=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))


def test_another_version_is_scored_by_its_own_tokenizer(tmp_path: Path) -> None:
    make(tmp_path, STORY, kind="character", max_length=16)
    folder = tmp_path / "champion"
    model = random_model()
    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    (tmp_path / "work").mkdir()
    found = score_version(folder, CONTEXT, tmp_path / "data", tmp_path / "work", "nonsense_v1")
    text = "".join(text for text, _ in read_rows(tmp_path / "data", "test"))
    ids = np.array([END, *byte_tokenizer().encode(text).ids], np.uint16)
    arrays = tokens.TokenArrays(ids, np.array([0, len(ids)]), np.zeros((1, 0), np.int32))
    summary = tokens.TokenSplit(
        num_rows=1,
        num_tokens=len(ids),
        digests={},
        length_quantiles={},
        truncated_share=0,
        unknown_token_share=0,
        num_characters=len(text),
        num_bytes=len(text.encode()),
    )
    assert all_blocks(arrays, summary, CONTEXT).num_rows == -(-(len(ids) - 1) // (CONTEXT - 1))
    assert found == pytest.approx(score_language(model, arrays, summary, CONTEXT, "by hand"))
