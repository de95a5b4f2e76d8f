"""Each rule learns; only matrices decay; layers and head have their rates; gradients are clipped as asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairlead.training.config import TrainConfig
from fairlead.training.loop import Loop
from fairlead.training.updates.optimizers import build_optimizer, clip_gradient, parameter_groups, set_learning_rate
from tests.training.corpus import curve

RATES = {"adamw": 3e-3, "adam": 3e-3, "sgd": 3e-2, "rmsprop": 1e-3, "adagrad": 2e-2, "muon": 3e-3}


@pytest.mark.parametrize("name", RATES)
def test_every_optimizer_decreases_the_loss(name: str, make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    assert make_loop(tmp_path, optimizer=name, learning_rate=RATES[name], epochs=2).run()
    losses = curve(tmp_path)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_only_matrices_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    decayed, rest = parameter_groups(model, TrainConfig(weight_decay=0.1))
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert [len(group["params"]) for group in (decayed, rest)] == [2, 3]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"optimizer": "sgd", "momentum": 0.5}, {"momentum": 0.5}),
        ({"optimizer": "adamw", "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6}, {"betas": (0.8, 0.95), "eps": 1e-6}),
        ({"optimizer": "adam"}, {"betas": (0.9, 0.999), "eps": 1e-8, "fused": True}),
        ({"optimizer": "rmsprop", "rmsprop_decay": 0.9}, {"alpha": 0.9, "eps": 1e-8, "momentum": 0.9}),
        ({"optimizer": "adagrad"}, {"eps": 1e-10}),
    ],
)
def test_settings_reach_the_optimizer(settings: dict[str, Any], found: dict[str, Any]) -> None:
    config = TrainConfig.parse(settings | {"learning_rate": 0.25, "weight_decay": 0.2})
    groups = build_optimizer(torch.nn.Linear(2, 2), config).param_groups
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.25, 0.2), (0.25, 0.0)]
    assert {name: groups[0][name] for name in found} == found


def test_layers_and_head_have_rates_by_their_depth(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    loop = make_loop(tmp_path, layer_rate_decay=0.5, head_rate_factor=10)
    set_learning_rate(loop.optimizer, 0.1)
    rates = {id(p): group["lr"] for group in loop.optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in loop.model.named_parameters()}
    # One layer: the head 10 x, the layer 0.5, the embeddings 0.5^2.
    assert found["classifier.weight"] == found["head.dense.weight"] == pytest.approx(1.0)
    assert found["model.layers.0.mlp.Wi.weight"] == found["model.final_norm.weight"] == pytest.approx(0.05)
    assert found["model.embeddings.tok_embeddings.weight"] == pytest.approx(0.025)


def test_a_rate_of_its_own_moves_the_head_further(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    moved = {}
    for factor in (1.0, 10.0):
        loop = make_loop(tmp_path / str(factor), head_rate_factor=factor, max_steps=2, learning_rate=1e-4)
        before = [
            loop.model.classifier.weight.detach().clone(),
            loop.model.model.layers[0].mlp.Wi.weight.detach().clone(),
        ]
        assert loop.run()
        after = [loop.model.classifier.weight.detach(), loop.model.model.layers[0].mlp.Wi.weight.detach()]
        moved[factor] = [(b - a).abs().mean().item() for a, b in zip(before, after, strict=True)]
    assert moved[10.0][0] == pytest.approx(10 * moved[1.0][0], rel=0.2)
    assert moved[10.0][1] == pytest.approx(moved[1.0][1], rel=0.2)


@pytest.mark.parametrize(
    ("limit", "value", "after"),
    [(1.0, 0.0, [0.6, 0.8]), (0.0, 0.0, [3, 4]), (9.0, 0.0, [3, 4]), (0.0, 3.5, [3, 3.5]), (1.0, 3.0, [0.5**0.5] * 2)],
)
def test_values_are_clipped_before_the_norm_over_all_weights(limit: float, value: float, after: list[float]) -> None:
    model = torch.nn.Linear(1, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    config = TrainConfig(gradient_clip=limit, gradient_clip_value=value)
    assert clip_gradient(model, config) == pytest.approx(5.0)
    assert [model.weight.grad.item(), model.bias.grad.item()] == pytest.approx(after, rel=1e-5)


def test_clipping_hides_no_infinite_gradient() -> None:
    model = torch.nn.Linear(1, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[float("inf")]]), torch.tensor([4.0])
    assert clip_gradient(model, TrainConfig(gradient_clip_value=1.0)) == float("inf")
