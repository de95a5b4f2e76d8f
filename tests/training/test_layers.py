"""Depths of weights in real architectures; what is frozen does not change; the rates follow the formula."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification as Classifier
from transformers import (
    BartConfig,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    ModernBertConfig,
    RobertaConfig,
)

from fairlead.errors import ConfigError
from fairlead.training.config import TrainConfig
from fairlead.training.loop import Loop
from fairlead.training.updates.layers import depths, rate_factors
from tests.training.corpus import curve

SIZES = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
MODELS = {
    "bert": (BertConfig(**SIZES), "bert.encoder.layer.1.", "bert.embeddings.", "classifier.", "bert.pooler."),
    "modernbert": (
        ModernBertConfig(
            **SIZES, pad_token_id=0, cls_token_id=None, sep_token_id=None, bos_token_id=None, eos_token_id=None
        ),
        *("model.layers.1.", "model.embeddings.", "head.", "model.final_norm."),
    ),
    "roberta": (RobertaConfig(**SIZES), "roberta.encoder.layer.1.", "roberta.embeddings.", "classifier.dense.", None),
    "distilbert": (
        DistilBertConfig(vocab_size=20, dim=8, n_layers=2, n_heads=2, hidden_dim=8),
        *("distilbert.transformer.layer.1.", "distilbert.embeddings.", "pre_classifier.", None),
    ),
    "deberta": (DebertaV2Config(**SIZES), "deberta.encoder.layer.1.", "deberta.embeddings.", "classifier.", None),
    "gpt2": (
        GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2),
        *("transformer.h.1.", "transformer.wte.", "score.", "transformer.ln_f."),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_weights_stand_where_they_compute(name: str) -> None:
    config, top_layer, embeddings, head, after = MODELS[name]
    found = depths(Classifier.from_config(config))
    assert found.num_layers == 2

    def of(prefix: str) -> set[int]:
        return {depth for weight, depth in found.by_name.items() if weight.startswith(prefix)}

    assert (of(top_layer), of(embeddings), of(head)) == ({2}, {0}, {3})
    assert of(top_layer.replace(".1.", ".0.")) == {1}
    assert after is None or of(after) == {2}


def test_an_encoder_decoder_has_two_stacks() -> None:
    config = BartConfig(
        vocab_size=20, d_model=8, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=8,
    )  # fmt: skip
    found = depths(Classifier.from_config(config))
    assert found.num_layers == 4
    assert found.by_name["model.encoder.layers.0.fc1.weight"] == 1
    assert found.by_name["model.decoder.layers.1.fc1.weight"] == 4


def test_rates_fall_by_the_formula() -> None:
    model = Classifier.from_config(MODELS["bert"][0])
    factors = rate_factors(model, TrainConfig(layer_rate_decay=0.9, head_rate_factor=5))
    by_formula = {
        "bert.embeddings.word_embeddings.weight": 0.9**3,
        "bert.encoder.layer.0.output.dense.bias": 0.9**2,
        "bert.encoder.layer.1.output.dense.bias": 0.9,
        "bert.pooler.dense.weight": 0.9,
        "classifier.bias": 5,
    }
    assert {name: factors[name] for name in by_formula} == pytest.approx(by_formula)
    assert set(rate_factors(model, TrainConfig()).values()) == {1.0}


@pytest.mark.parametrize(
    ("changes", "frozen"),
    [
        ({"freeze_embeddings": True}, "model.embeddings."),
        ({"freeze_layers": 1}, "model.layers."),
        ({"freeze": ["*.attn.*", "classifier.bias"]}, ("model.layers.0.attn.", "classifier.bias")),
    ],
)
def test_what_is_frozen_does_not_change_and_the_rest_learns(
    make_loop: Callable[..., Loop], tmp_path: Path, changes: dict[str, Any], frozen: str | tuple[str, ...]
) -> None:
    loop = make_loop(tmp_path, epochs=1, **changes)
    before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
    assert loop.run()
    same = {name for name, p in loop.model.named_parameters() if torch.equal(p, before[name])}
    assert same == {name for name in before if name.startswith(frozen)} != set()
    assert curve(tmp_path)[-1] < curve(tmp_path)[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"freeze_layers": 2}, "training.freeze_layers: 2 is more than the 1 layers"),
        ({"freeze": ["encoder.*"]}, "training.freeze: 'encoder.\\*' fits no weight; their names are like model.emb"),
        ({"freeze": ["*"]}, "every weight of the model is frozen"),
    ],
)
def test_a_freeze_of_nothing_or_everything_is_refused(
    make_loop: Callable[..., Loop], tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make_loop(tmp_path, **changes)


def test_a_model_without_layers_has_no_rates_by_layer() -> None:
    with pytest.raises(ConfigError, match="has no stack of layers"):
        rate_factors(torch.nn.Linear(2, 2), TrainConfig(layer_rate_decay=0.5))
