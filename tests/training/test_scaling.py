"""float16: the loss is scaled, what overflows is skipped and counted, and a loss that is broken is still found.

torch computes float16 on a CPU too, slowly: the loop is the one that trains on a GPU.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fairlead.errors import NumericalError
from fairlead.training.checkpoints.format import SKIPPED
from fairlead.training.loop import Loop
from tests.training.corpus import curve, weights

MakeLoop = Callable[..., Loop]
# The gradient of this small model has a norm of 40 at most, and float16 ends at 65,504.
SMALL, MUCH_TOO_LARGE = (
    {"scale": torch.tensor(scale), "growth_tracker": torch.tensor(0)} for scale in (2.0**10, 2.0**20)
)


def overflowing(make_loop: MakeLoop, folder: Path, **changes: object) -> Loop:
    loop = make_loop(folder, precision="fp16", epochs=2, **changes)
    if loop.state.step == 0:
        loop.scaling.load(MUCH_TOO_LARGE)
    return loop


def test_the_curve_is_that_of_float32_within_half_precision(make_loop: MakeLoop, tmp_path: Path) -> None:
    for name in ("fp16", "fp32"):
        loop = make_loop(tmp_path / name, precision=name, epochs=1)
        if name == "fp16":
            loop.scaling.load(SMALL)
        assert loop.run()
    assert curve(tmp_path / "fp16") == pytest.approx(curve(tmp_path / "fp32"), rel=1e-2)
    assert curve(tmp_path / "fp16", "gradient_norm") == pytest.approx(
        curve(tmp_path / "fp32", "gradient_norm"), rel=0.05
    )
    assert curve(tmp_path / "fp16", "loss_scale")[-1] == 1024 and curve(tmp_path / "fp16", SKIPPED)[-1] == 0


def test_steps_that_overflow_are_skipped_and_counted(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = overflowing(make_loop, tmp_path)
    before = weights(loop.model)
    assert loop.run()
    skipped, scales = curve(tmp_path, SKIPPED), curve(tmp_path, "loss_scale")
    assert skipped[0] == 1 and 1 <= loop.state.skipped_steps == skipped[-1] < 12
    # The scale of a step is what is left of the first one; steps are counted whether they are skipped or not.
    assert scales[-1] == 2.0**20 / 2 ** skipped[-1] and len(scales) == loop.state.step == loop.plan.num_steps
    assert len(curve(tmp_path, "gradient_norm")) == loop.plan.num_steps - skipped[-1]
    assert weights(loop.model) != before


def test_a_skipped_step_leaves_weights_and_averages_alone(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = overflowing(make_loop, tmp_path, max_steps=1, ema_decay=0.9)
    before = weights(loop.model)
    assert loop.run() and loop.state.skipped_steps == 1
    assert weights(loop.model) == before and not loop.optimizer.state


@pytest.mark.parametrize("times", [2, 13])
def test_a_resumed_run_has_the_scale_that_it_had(make_loop: MakeLoop, tmp_path: Path, times: int) -> None:
    asked = iter(range(times))
    stopped = overflowing(make_loop, tmp_path / "a", stop_requested=lambda: next(asked, None) is None)
    assert not stopped.run()
    resumed, whole = overflowing(make_loop, tmp_path / "a"), overflowing(make_loop, tmp_path / "b")
    assert resumed.state.step == stopped.state.step and resumed.scaling.value == stopped.scaling.value < 2.0**20
    assert resumed.run() and whole.run()
    assert weights(resumed.model) == weights(whole.model)
    assert resumed.state.skipped_steps == whole.state.skipped_steps and resumed.scaling.value == whole.scaling.value


def test_a_broken_loss_is_no_overflow(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(tmp_path, precision="fp16")
    with torch.no_grad():
        loop.model.classifier.bias[0] = float("nan")
    with pytest.raises(NumericalError, match=r"the loss is nan at step 1;"):
        loop.run()


def test_a_gradient_that_no_scale_helps_is_trouble(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(tmp_path, precision="fp16", eval_every_steps=100)
    loop.model.classifier.bias.register_hook(lambda gradient: gradient * float("nan"))
    # 65,536 halved 16 times is 1.
    with pytest.raises(NumericalError, match=r"the gradient's norm is nan at step 17;"):
        loop.run()
    assert loop.state.skipped_steps == loop.state.step == 16
