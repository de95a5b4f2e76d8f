"""The average of the weights: its formula, where it is used, and that a resumed run goes on bit for bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fairlead.training.loop import Loop
from fairlead.training.updates.averaging import AVERAGE, decay_at
from tests.training.corpus import curve, weights
from tests.training.test_loop import After, Killed, finish

MakeLoop = Callable[..., Loop]


def test_it_equals_the_average_computed_by_hand(make_loop: MakeLoop, tmp_path: Path) -> None:
    settings = {"max_steps": 4, "eval_every_steps": 100}
    by_step = []
    for step in range(1, 5):
        # The rate of a step depends on the number of steps, so a run is stopped rather than made shorter.
        loop = make_loop(tmp_path / str(step), stop_requested=After(step), **settings)
        loop.run()
        by_step.append(loop.model.classifier.weight.detach().clone())
    expected = by_step[0]
    for step, weight in enumerate(by_step[1:], start=2):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    averaged = finish(make_loop, tmp_path / "averaged", ema_decay=0.3, **settings)
    assert torch.allclose(averaged.model.classifier.weight, expected, atol=1e-7)
    assert not torch.allclose(averaged.model.classifier.weight, by_step[-1], atol=1e-4)


def test_its_share_grows_to_the_decay() -> None:
    assert [decay_at(0.9, step) for step in (1, 10, 1000)] == pytest.approx([2 / 11, 11 / 20, 0.9])


def test_training_goes_on_from_the_weights_and_validation_takes_the_average(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    plain = make_loop(tmp_path / "plain", epochs=2)
    averaged = make_loop(tmp_path / "averaged", epochs=2, ema_decay=0.99)
    assert plain.run() and averaged.run()
    assert weights(plain.model) == weights(averaged.model) and curve(tmp_path / "plain") == curve(tmp_path / "averaged")
    assert curve(tmp_path / "plain", "validation/loss") != curve(tmp_path / "averaged", "validation/loss")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop", "adagrad"])
@pytest.mark.parametrize("times", [2, 11, 15])
def test_killed_anywhere_it_ends_with_the_same_average(
    make_loop: MakeLoop, tmp_path: Path, optimizer: str, times: int
) -> None:
    changes = {"optimizer": optimizer, "epochs": 2, "checkpoint_every_steps": 4, "ema_decay": 0.95}
    with pytest.raises(Killed):
        make_loop(tmp_path / "killed", stop_requested=After(times, die=True), **changes).run()
    resumed, whole = finish(make_loop, tmp_path / "killed", **changes), finish(make_loop, tmp_path / "whole", **changes)
    assert weights(resumed.model) == weights(whole.model) and resumed.state.best == whole.state.best


def test_momentum_is_not_needed(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = finish(make_loop, tmp_path, optimizer="sgd", momentum=0, ema_decay=0.5, max_steps=3)
    assert all(AVERAGE in loop.optimizer.state[p] for group in loop.optimizer.param_groups for p in group["params"])
