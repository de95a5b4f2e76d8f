"""The pooling layer: what it starts as, when a base gets it, and that any loader reads the result."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

from fairlead.errors import ConfigError
from fairlead.formats.tokens import TokensManifest
from fairlead.training.config import ModelConfig
from fairlead.training.models.building import build_model

SIZES = {
    "vocab_size": 64,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
KINDS = {"bert": (BertConfig, BertModel), "roberta": (RobertaConfig, RobertaModel)}
TOKENS = TokensManifest(
    digest="sha256:1",
    data_digest="sha256:2",
    tokenizer_digest="sha256:3",
    vocab_size=64,
    pad_token_id=0,
    max_length=16,
    dtype="uint16",
    labels=["cat", "dog"],
    splits={},
    config={},
)


def sentence_encoder(folder: Path, kind: str = "bert", mean: bool = True) -> nn.Module:
    """A tiny encoder in the layout of sentence-transformers."""
    torch.manual_seed(0)
    config, model = KINDS[kind]
    encoder = model(config(**SIZES)).eval()
    encoder.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": mean}))
    return encoder


def built(folder: Path, pooling: str = "auto") -> nn.Module:
    return build_model(ModelConfig(base=str(folder), pooling=pooling), TOKENS, folder).eval()


@pytest.mark.parametrize("kind", list(KINDS))
@torch.no_grad()
def test_the_first_token_of_the_last_layer_starts_as_itself_and_the_mean(tmp_path: Path, kind: str) -> None:
    encoder, model = sentence_encoder(tmp_path, kind), built(tmp_path)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = (ids != 0).long()
    hidden_BTD = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    mean_BD = (hidden_BTD * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    norm = nn.LayerNorm(8, eps=1e-12)
    expected_BD = norm(norm(hidden_BTD[:, 0] + 4 * mean_BD))
    base = model.get_submodule(kind)
    pooled_BD = base(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    assert torch.allclose(pooled_BD, expected_BD, atol=1e-5)


@torch.no_grad()
def test_any_loader_reads_what_is_saved(tmp_path: Path) -> None:
    sentence_encoder(tmp_path / "base")
    model, ids = built(tmp_path / "base"), torch.tensor([[5, 6, 7, 8]])
    model.save_pretrained(tmp_path / "saved")  # type: ignore[operator]
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert loaded.config.num_hidden_layers == 3
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize(
    ("mean", "pooling", "layers"), [(True, "auto", 3), (False, "auto", 2), (True, "base", 2), (False, "mean", 3)]
)
def test_the_base_or_the_setting_decides(tmp_path: Path, mean: bool, pooling: str, layers: int) -> None:
    sentence_encoder(tmp_path, mean=mean)
    assert built(tmp_path, pooling).config.num_hidden_layers == layers


def test_a_damaged_note_on_pooling_says_nothing(tmp_path: Path) -> None:
    sentence_encoder(tmp_path)
    (tmp_path / "1_Pooling/config.json").write_text("[")
    assert built(tmp_path).config.num_hidden_layers == 2


def test_another_architecture_is_refused_or_left_alone(tmp_path: Path) -> None:
    DistilBertModel(DistilBertConfig(vocab_size=64, dim=8, n_layers=1, n_heads=2, hidden_dim=16)).save_pretrained(
        tmp_path
    )
    assert built(tmp_path).config.n_layers == 1
    with pytest.raises(ConfigError, match=r"model.pooling: .* is a distilbert"):
        built(tmp_path, "mean")
