"""The range test: rates by equal factors, where it stops, what it suggests, and that it leaves nothing."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.sweep.range_curve import RangeCurve, RunningMean, judge, rate_of
from fairlead.training.sweep.range_picture import draw
from fairlead.training.sweep.range_test import main
from tests.training.corpus import Corpus
from tests.training.forked import Forked


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


def rates(num: int = 101) -> np.ndarray:
    """Logarithms of the rates from 1e-5 to 1: 101 steps are twenty a decade."""
    return np.linspace(-5, 0, num)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_third_of_the_edge_is_suggested(noise: float) -> None:
    # It falls around 1e-3, fastest there, to a floor that it leaves at 1e-1.
    clean = 2 - np.tanh((rates() + 3) * 2) + np.maximum(0.0, rates() + 1) ** 2 * 3
    curve = curve_of((clean + noise * np.random.default_rng(0).normal(size=101)).tolist())
    assert curve.steepest is not None and 1e-3 / 3.2 < curve.steepest < 1e-3 * 3.2
    assert curve.edge is not None and 0.02 < curve.edge < 0.3
    assert curve.suggested == pytest.approx(curve.edge / 3, rel=0.05)


def test_a_loss_that_falls_to_the_last_rate_suggests_a_third_of_it() -> None:
    assert curve_of((-np.exp(rates())).tolist()).suggested == pytest.approx(1 / 3, rel=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_on_easy_data_noise_does_not_draw_the_suggestion_down(seed: int) -> None:
    # Learned at 1e-4 and at its floor from 2e-4 to 1e-2, where it bursts: the least is anywhere between.
    clean = 0.25 + 0.25 * (1 - np.tanh((rates() + 4) * 4)) + np.maximum(0.0, rates() + 2) ** 2
    curve = curve_of((clean + 0.1 * np.random.default_rng(seed).normal(size=101)).tolist())
    assert curve.suggested is not None and 1e-2 / 3 / 3 < curve.suggested < 1e-2 / 3 * 5


@pytest.mark.parametrize(
    "losses",
    [[1.0 + step for step in range(30)], [3.0, 2.0, 1.0], np.random.default_rng(1).normal(5, 1, 100).tolist()],
    ids=["rising", "few", "noise"],
)
def test_a_loss_that_does_not_fall_or_too_few_steps_suggest_nothing(losses: list[float]) -> None:
    assert curve_of(losses).suggested is None


def rank(folder: Path, _rank: int, _ranks: int) -> int:
    """A sweep in a forked process."""
    return main([str(folder / "job.json"), str(folder / "result.json")])


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    forked = Forked("tests.training.test_range_test")
    yield forked
    forked.close()


def swept_at(forked: Forked, corpus: Corpus, folder: Path, rate: float) -> float:
    """The loss at the end of a sweep that stays at one rate."""
    points = swept(forked, corpus, folder, rate, rate * 1.001)["curve"]["points"]
    return float(np.mean([point["loss"] for point in points[-5:]]))


def swept(
    forked: Forked | None,
    corpus: Corpus,
    folder: Path,
    lowest: float = 1e-5,
    highest: float = 10.0,
    **changes: Any,
) -> dict[str, Any]:
    """What is found in a forked process, or by the program as `fairlead lr-find` starts it."""
    job = {
        "tokens": str(corpus.tokens),
        "model": ModelConfig(depth=1).to_dict(),
        "training": TrainConfig.parse({"batch_size": 8, "threads": 1, "ema_decay": 0.9} | changes).to_dict(),
        "steps": 40,
        "lowest": lowest,
        "highest": highest,
        "picture": str(folder / "curve.png"),
    }
    (folder / "job.json").write_text(json.dumps(job))
    if forked:
        assert [one.code for one in forked.run(folder, 1)] == [0]
    else:
        program = [sys.executable, "-m", "fairlead.training.sweep.range_test"]
        environment = os.environ | {"FAIRLEAD_HOME": str(folder / "home")}
        subprocess.run([*program, folder / "job.json", folder / "result.json"], check=True, env=environment)
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_it_finds_a_rate_and_leaves_nothing(forked: Forked, corpus: Corpus, tmp_path: Path) -> None:
    curve = swept(None, corpus, tmp_path)["curve"]
    assert 1e-4 <= curve["suggested"] <= 5e-2
    assert curve["suggested"] == pytest.approx(curve["edge"] / 3, rel=0.05)
    assert curve["points"][0]["rate"] == pytest.approx(1e-5)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "home").exists()
    # Trained with it, and not with a hundredth of it, the model has learned after as many steps.
    learned, not_yet = [swept_at(forked, corpus, tmp_path, curve["suggested"] * share) for share in (1, 0.01)]
    assert learned < 0.5 * not_yet


def test_a_mistake_comes_back_as_a_sentence(forked: Forked, corpus: Corpus, tmp_path: Path) -> None:
    found = swept(forked, corpus, tmp_path, freeze_layers=9)
    assert found["kind"] == "ConfigError" and found["message"].startswith("training.freeze_layers: 9 is more than")


def test_a_curve_without_a_suggestion_is_drawn_too(tmp_path: Path) -> None:
    draw(curve_of([1.0, 2.0]), tmp_path / "new" / "curve.svg")
    assert (tmp_path / "new" / "curve.svg").read_text().startswith("<?xml")
