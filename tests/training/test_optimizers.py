"""Each rule learns; only matrices decay; the clipped gradient has the norm asked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fairlead.training.config import TrainConfig
from fairlead.training.loop import Loop
from fairlead.training.optimizers import build_optimizer, clip_gradient, parameter_groups
from tests.training.corpus import curve

RATES = {"adamw": 3e-3, "adam": 3e-3, "sgd": 3e-2, "rmsprop": 1e-3, "adagrad": 2e-2}


@pytest.mark.parametrize("name", RATES)
def test_every_optimizer_decreases_the_loss(name: str, make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    assert make_loop(tmp_path, optimizer=name, learning_rate=RATES[name], epochs=2).run()
    losses = curve(tmp_path)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_only_matrices_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    decayed, rest = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert [len(group["params"]) for group in (decayed, rest)] == [2, 3]


def test_settings_reach_the_optimizer() -> None:
    config = TrainConfig.parse({"optimizer": "sgd", "momentum": 0.5, "learning_rate": 0.25, "weight_decay": 0.2})
    optimizer = build_optimizer(torch.nn.Linear(2, 2), config)
    assert [(g["lr"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.25, 0.5, 0.2),
        (0.25, 0.5, 0.0),
    ]


@pytest.mark.parametrize(("limit", "after"), [(1.0, 1.0), (0.0, 5.0), (9.0, 5.0)])
def test_clipping_takes_the_norm_over_all_weights(limit: float, after: float) -> None:
    model = torch.nn.Linear(1, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    assert clip_gradient(model, limit) == pytest.approx(5.0)
    assert torch.cat([model.weight.grad.flatten(), model.bias.grad]).norm() == pytest.approx(after, rel=1e-5)
