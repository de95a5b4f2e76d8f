"""The range test: rates by equal factors, where it stops, what it suggests, and that it leaves nothing."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.sweep.range_curve import RangeCurve, RunningMean, judge, rate_of
from fairlead.training.sweep.range_picture import draw
from tests.training.corpus import Corpus


def curve_of(losses: list[float], lowest: float = 1e-5, highest: float = 1.0) -> RangeCurve:
    rates = [rate_of(step, len(losses), lowest, highest) for step in range(1, len(losses) + 1)]
    return judge(rates, losses, None)


def test_rates_grow_by_equal_factors() -> None:
    assert [rate_of(step, 4, 1e-3, 1.0) for step in (1, 2, 3, 4)] == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])


def test_the_mean_forgets_and_is_not_pulled_to_zero() -> None:
    mean = RunningMean()
    assert mean.add(2.0) == 2.0
    assert mean.add(1.0) == pytest.approx((0.9 * 2 + 1) / 1.9)
    assert not mean.has_burst(mean.least * 3.9)
    assert mean.has_burst(mean.least * 4.1) and mean.has_burst(math.nan)


@pytest.mark.parametrize(("noise", "factor"), [(0.0, 1.05), (0.2, 3.2)])
def test_the_lower_of_steepest_and_a_tenth_of_the_minimum_is_suggested(noise: float, factor: float) -> None:
    # 1e-5 to 1 in 101 steps, twenty a decade: it falls around 1e-3, fastest there, and bursts after 1e-1.
    generator = np.random.default_rng(0)
    log_rates = np.linspace(-5, 0, 101)
    losses = 2 - np.tanh((log_rates + 3) * 2) + np.maximum(0.0, log_rates + 1) ** 2 * 3
    curve = curve_of((losses + noise * generator.normal(size=101)).tolist())
    assert curve.steepest is not None and 1e-3 / factor < curve.steepest < 1e-3 * factor
    assert curve.suggested == pytest.approx(min(curve.steepest, curve.minimum / 10), rel=0.05)
    assert curve.minimum is not None and 3e-3 < curve.minimum < 0.3
    # Steepest and least at the highest rate: a tenth of it.
    assert curve_of((-np.exp(log_rates)).tolist()).suggested == pytest.approx(0.1)


@pytest.mark.parametrize(
    "losses",
    [[1.0 + step for step in range(30)], [3.0, 2.0, 1.0], np.random.default_rng(1).normal(5, 1, 100).tolist()],
    ids=["rising", "few", "noise"],
)
def test_a_loss_that_does_not_fall_or_too_few_steps_suggest_nothing(losses: list[float]) -> None:
    assert curve_of(losses).suggested is None


def swept(corpus: Corpus, folder: Path, **changes: Any) -> dict[str, Any]:
    job = {
        "tokens": str(corpus.tokens),
        "model": ModelConfig(depth=1).to_dict(),
        "training": TrainConfig.parse({"batch_size": 8, "threads": 1, "ema_decay": 0.9} | changes).to_dict(),
        "steps": 40,
        "lowest": 1e-5,
        "highest": 10.0,
        "picture": str(folder / "curve.png"),
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "fairlead.training.sweep.range_test", folder / "job.json", folder / "result.json"]
    environment = os.environ | {"FAIRLEAD_HOME": str(folder / "home")}
    subprocess.run(command, check=True, env=environment)
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_it_finds_a_rate_and_leaves_nothing(corpus: Corpus, tmp_path: Path) -> None:
    curve = swept(corpus, tmp_path)["curve"]
    assert 1e-4 <= curve["suggested"] <= 5e-2
    assert curve["suggested"] <= curve["minimum"] / 10 * 1.05
    assert curve["points"][0]["rate"] == pytest.approx(1e-5)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "home").exists()


def test_a_mistake_comes_back_as_a_sentence(corpus: Corpus, tmp_path: Path) -> None:
    found = swept(corpus, tmp_path, freeze_layers=9)
    assert found["kind"] == "ConfigError" and found["message"].startswith("training.freeze_layers: 9 is more than")


def test_a_curve_without_a_suggestion_is_drawn_too(tmp_path: Path) -> None:
    draw(curve_of([1.0, 2.0]), tmp_path / "new" / "curve.svg")
    assert (tmp_path / "new" / "curve.svg").read_text().startswith("<?xml")
