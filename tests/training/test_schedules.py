"""The learning rate rises to its peak and falls, and no step is wasted on a rate of 0."""

import pytest

from fairlead.errors import ConfigError
from fairlead.training.config import TrainConfig
from fairlead.training.updates.schedules import learning_rate


@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse_sqrt", "constant"])
@pytest.mark.parametrize("warmup_share", [0.0, 0.1, 0.99])
@pytest.mark.parametrize("num_steps", [1, 2, 100])
def test_every_step_has_a_rate_within_its_peak(schedule: str, warmup_share: float, num_steps: int) -> None:
    if schedule == "inverse_sqrt" and not warmup_share:
        pytest.skip("it is refused without a warm-up")
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


def test_inverse_sqrt_falls_by_the_length_of_the_warm_up() -> None:
    config = TrainConfig.parse({"schedule": "inverse_sqrt", "warmup_steps": 4, "learning_rate": 1.0})
    rates = [learning_rate(config, step, 100) for step in (2, 4, 16, 64)]
    assert rates == pytest.approx([0.5, 1.0, 0.5, 0.25])


@pytest.mark.parametrize(("steps", "rates"), [(0, [1.0, 0.9]), (2, [0.5, 1.0]), (20, [0.05, 0.1])])
def test_the_warm_up_may_be_given_in_steps(steps: int, rates: list[float]) -> None:
    config = TrainConfig.parse({"warmup_steps": steps, "learning_rate": 1.0})
    assert [learning_rate(config, step, 10) for step in (1, 2)] == pytest.approx(rates)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_may_end_above_zero(schedule: str) -> None:
    values = {"schedule": schedule, "final_rate_share": 0.25, "learning_rate": 1.0, "warmup_share": 0.0}
    config = TrainConfig.parse(values)
    assert learning_rate(config, 1, 1000) == 1.0 and learning_rate(config, 1000, 1000) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"schedule": "inverse_sqrt", "warmup_share": 0}, "there is none; set one"),
        ({"schedule": "inverse_sqrt", "warmup_steps": 0}, "there is none; set one"),
        ({"warmup_steps": 5, "warmup_share": 0.5}, "warmup_share = 0.5 does nothing with warmup_steps = 5; leave one"),
        ({"schedule": "constant", "final_rate_share": 0.1}, "set schedule to linear or cosine, or leave"),
        ({"optimizer": "adamw", "momentum": 0.5}, "momentum = 0.5 does nothing with optimizer = adamw"),
        ({"optimizer": "sgd", "epsilon": 1e-6}, "epsilon = 1e-06 does nothing with optimizer = sgd"),
        ({"optimizer": "sgd", "beta2": 0.9}, "beta2 = 0.9 does nothing"),
        ({"rmsprop_decay": 0.9}, "rmsprop_decay = 0.9 does nothing with optimizer = adamw; set optimizer to rmsprop"),
    ],
)
def test_settings_that_do_nothing_are_refused(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        TrainConfig.parse(values, where="training")
    assert sentence in str(refusal.value)
