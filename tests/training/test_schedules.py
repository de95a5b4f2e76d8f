"""The learning rate rises to its peak and falls, and no step is wasted on a rate of 0."""

import pytest

from fairlead.training.config import TrainConfig
from fairlead.training.schedules import learning_rate


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup_share", [0.0, 0.1, 0.99])
@pytest.mark.parametrize("num_steps", [1, 2, 100])
def test_every_step_has_a_rate_within_its_peak(schedule: str, warmup_share: float, num_steps: int) -> None:
    config = TrainConfig.parse({"schedule": schedule, "warmup_share": warmup_share, "learning_rate": 0.5})
    rates = [learning_rate(config, step, num_steps) for step in range(1, num_steps + 1)]
    assert all(0 < rate <= 0.5 for rate in rates)
    assert max(rates) == pytest.approx(0.5, rel=0.03)


def test_the_shapes() -> None:
    def rates(schedule: str) -> list[float]:
        config = TrainConfig.parse({"schedule": schedule, "warmup_share": 0.2, "learning_rate": 1.0})
        return [learning_rate(config, step, 10) for step in range(1, 11)]

    assert rates("linear")[:3] == pytest.approx([0.5, 1.0, 8 / 9])
    assert rates("linear")[-1] == pytest.approx(1 / 9)
    assert rates("constant")[2:] == [1.0] * 8
    assert rates("cosine") == sorted(rates("cosine")[:2]) + sorted(rates("cosine")[2:], reverse=True)
