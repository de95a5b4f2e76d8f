"""The embedding of every variant is what the head of the model reads: its own hidden states, pooled."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from fairlead.formats.variants import REFERENCE
from fairlead.training.models.building import load_classifier
from fairlead.variants.embedding import pooling_of
from fairlead.variants.onnx_runner import OnnxRunner
from fairlead.variants.torch_runner import TorchRunner
from tests.variants.conftest import NAMES, TEXTS
from tests.variants.test_opening import BOUNDS, opened

SIZE = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def pooled(model: Any, ids: list[int]) -> np.ndarray:
    """Of one text alone, so that there is no padding."""
    with torch.inference_mode():
        hidden_TH = model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    rows = {"mean": hidden_TH.mean(dim=0), "first": hidden_TH[0], "last": hidden_TH[-1]}
    return rows[pooling_of(model)].numpy()


@pytest.mark.parametrize("name", [REFERENCE, *NAMES])
def test_every_variant_pools_the_models_own_hidden_states(version: Path, name: str) -> None:
    model = load_classifier(version)
    assert pooling_of(model) == "mean"
    runner = opened(version, name)
    bound = BOUNDS[name.partition("-")[2]]
    logits, embeddings = runner.embed(TEXTS)
    assert embeddings.dtype == np.float32 and embeddings.shape == (len(TEXTS), runner.embedding_size)
    assert np.abs(embeddings - [pooled(model, ids) for ids in TEXTS]).max() < bound
    assert np.abs(logits - runner.run(TEXTS)).max() < 1e-5
    alone, again = runner.embed(TEXTS[:1])[1], runner.embed(TEXTS[1:])[1]
    assert np.abs(alone[0] - embeddings[0]).max() < bound and again.shape[0] == len(TEXTS) - 1


@pytest.mark.parametrize(
    ("pooling", "model"),
    [
        ("first", BertForSequenceClassification(BertConfig(**SIZE))),
        ("last", LlamaForSequenceClassification(LlamaConfig(**SIZE, pad_token_id=0))),
    ],
    ids=["bert", "llama"],
)
def test_an_architecture_is_pooled_as_its_head_reads_it(pooling: str, model: Any) -> None:
    model.eval()
    assert pooling_of(model) == pooling
    logits, embeddings = TorchRunner(model, 0).embed(TEXTS)
    assert np.abs(embeddings - [pooled(model, ids) for ids in TEXTS]).max() < 1e-4
    assert np.abs(logits - TorchRunner(model, 0).run(TEXTS)).max() < 1e-6


def test_a_file_that_was_made_without_embeddings_says_so(version: Path, tmp_path: Path) -> None:
    model = onnx.load(version / "variants/onnx-fp32/model.onnx")
    del model.graph.output[1]
    onnx.save(model, tmp_path / "older.onnx")
    runner = OnnxRunner.load(tmp_path / "older.onnx", 0, 1)
    assert runner.embedding_size == 0 and runner.run(TEXTS).shape[0] == len(TEXTS)
