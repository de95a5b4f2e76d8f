"""Batch normalisation of the head: its statistics, its independence of cutting, and that it folds away exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, DistilBertConfig, GPT2Config, RobertaConfig

from fairlead.errors import ConfigError
from fairlead.training.config import ModelConfig
from fairlead.training.launching.distributed import Group
from fairlead.training.loop import Loop
from fairlead.training.models.building import build_model, load_classifier
from fairlead.training.models.headnorm import FeatureNorm, NormedLinear, add_head_norm, fold_head_norm
from fairlead.training.updates.averaging import decay_at
from tests.training.corpus import curve, weights
from tests.training.test_loop import After, Killed, finish
from tests.training.test_models import manifest

MakeLoop = Callable[..., Loop]
NORMED = {"model": ModelConfig(depth=1, classifier_norm="batch")}
SIZES = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
KINDS = {
    "bert": BertConfig(**SIZES, pad_token_id=0),
    "roberta": RobertaConfig(**SIZES, pad_token_id=0),
    "distilbert": DistilBertConfig(vocab_size=20, dim=8, n_layers=1, n_heads=2, hidden_dim=8),
}


def test_the_first_statistics_are_torch_s(group: Group) -> None:
    features = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    ours, theirs = FeatureNorm(4), nn.BatchNorm1d(4, momentum=1.0)
    theirs(features)
    ours.counting = True
    # In two parts: how a batch is cut does not show.
    ours(features[:5])
    ours(features[5:])
    ours.update(group)
    assert torch.allclose(ours.running_mean, theirs.running_mean) and torch.allclose(
        ours.running_var, theirs.running_var
    )
    assert torch.allclose(ours.eval()(features), theirs.eval()(features), atol=1e-6)


def test_later_statistics_move_by_the_momentum(group: Group) -> None:
    norm = FeatureNorm(1)
    norm.counting = True
    for step in range(1, 13):
        norm(torch.tensor([[float(step)], [float(step)]]))
        norm.update(group)
    # The mean of the first ten steps is 5.5; then a tenth of each is taken in.
    assert norm.running_mean.item() == pytest.approx(0.9 * (0.9 * 5.5 + 0.1 * 11) + 0.1 * 12)
    assert norm(torch.ones(2, 1)).requires_grad


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_it_folds_away_in_any_architecture(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(KINDS[kind]).eval()
    names, ids = set(model.state_dict()), torch.tensor([[5, 6, 7], [8, 9, 10]])
    plain = model(input_ids=ids).logits
    add_head_norm(model)
    (norm,) = (module for module in model.modules() if isinstance(module, FeatureNorm))
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        tensor.normal_()
    norm.running_var.uniform_(0.01, 4)
    normed = model(input_ids=ids).logits
    fold_head_norm(model)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert not torch.allclose(normed, plain, atol=1e-2)
    assert torch.allclose(loaded(input_ids=ids).logits, normed, atol=1e-5)
    assert set(model.state_dict()) == names


def test_the_saved_model_of_a_run_is_a_plain_one(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(tmp_path, epochs=2, **NORMED)
    assert isinstance(loop.model.classifier, NormedLinear) and loop.run()
    assert curve(tmp_path)[-1] < 0.7 * curve(tmp_path)[0]
    loop.model.eval()
    ids = torch.tensor([[2, 7, 9, 3]])
    assert loop._vocabulary is not None
    normed = loop.model(input_ids=torch.from_numpy(loop._vocabulary.places)[ids]).logits
    loop.state = loop.state.model_copy(update={"best": loop.state.best.model_copy(update={"step": loop.state.step})})
    loop.load_best()
    loop.model.save_pretrained(tmp_path / "saved")
    assert torch.allclose(load_classifier(tmp_path / "saved")(input_ids=ids).logits, normed, atol=1e-5)


def test_micro_batches_change_neither_curve_nor_statistics(make_loop: MakeLoop, tmp_path: Path) -> None:
    found = []
    for name, tokens in (("many", 16), ("one", 4096)):
        model = ModelConfig(depth=1, classifier_norm="batch", dropout=0)
        loop = make_loop(tmp_path / name, micro_batch_tokens=tokens, max_steps=6, model=model)
        assert loop.run()
        found.append(loop.model.classifier.norm)
    assert curve(tmp_path / "many") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
    assert torch.allclose(found[0].running_mean, found[1].running_mean, atol=1e-4)
    assert int(found[0].num_updates) == 6


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}])
@pytest.mark.parametrize("times", [2, 13])
def test_killed_anywhere_it_ends_with_the_same_weights(
    make_loop: MakeLoop, tmp_path: Path, times: int, changes: dict[str, Any]
) -> None:
    changes = changes | {"epochs": 2, "checkpoint_every_steps": 4} | NORMED
    with pytest.raises(Killed):
        make_loop(tmp_path / "killed", stop_requested=After(times, die=True), **changes).run()
    resumed, whole = finish(make_loop, tmp_path / "killed", **changes), finish(make_loop, tmp_path / "whole", **changes)
    assert weights(resumed.model) == weights(whole.model) and resumed.state.best == whole.state.best


def test_the_average_of_the_weights_has_its_own_statistics(make_loop: MakeLoop, tmp_path: Path) -> None:
    by_step = []
    for step in (1, 2, 3):
        loop = make_loop(tmp_path / str(step), ema_decay=0.3, max_steps=3, stop_requested=After(step), **NORMED)
        loop.run()
        by_step.append((loop.model.classifier.norm.running_var.clone(), loop.model.classifier.norm.average_var.clone()))
    expected = by_step[0][0]
    for step, (running, _) in enumerate(by_step[1:], start=2):
        expected = decay_at(0.3, step) * expected + (1 - decay_at(0.3, step)) * running
    assert torch.equal(*by_step[0]) and not torch.allclose(*by_step[-1], atol=1e-6)
    assert torch.allclose(by_step[-1][1], expected, atol=1e-7)


def test_dropout_before_it_is_off_unless_asked_for() -> None:
    assert build_model(NORMED["model"], manifest()).config.classifier_dropout == 0.0
    asked = ModelConfig(depth=1, classifier_norm="batch", classifier_dropout=0.2)
    assert build_model(asked, manifest()).config.classifier_dropout == 0.2


def test_a_head_without_a_place_for_it_is_refused() -> None:
    model = AutoModelForSequenceClassification.from_config(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match=r"model.classifier_norm: the head of gpt2 .* set it to none"):
        add_head_norm(model)
