"""Threads and arithmetic are chosen by measuring, and measuring leaves no trace."""

from collections.abc import Callable

import pytest
import torch

from fairlead.training.launching import calibration
from fairlead.training.launching.calibration import Cores


def _seconds(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    """Have the candidates take so long."""

    def best(works: list[Callable[[], float]]) -> list[float]:
        assert len(works) == len(seconds)
        return seconds

    monkeypatch.setattr(calibration, "_best", best)


@pytest.mark.parametrize(
    ("most", "seconds", "expected"),
    [
        (2, [1.0, 0.5], 2),
        # Two threads of one core.
        (2, [1.0, 0.98], 1),
        (2, [1.0, 20.0], 1),
        (6, [1.0, 0.5, 0.3, 0.29], 4),
    ],
)
def test_the_fewest_threads_that_are_about_the_fastest(
    monkeypatch: pytest.MonkeyPatch, most: int, seconds: list[float], expected: int
) -> None:
    _seconds(monkeypatch, seconds)
    assert calibration.fastest_threads(most, torch.float32) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_measuring_says_what_it_saw_and_leaves_the_number_of_threads(
    capfd: pytest.CaptureFixture[str], dtype: torch.dtype
) -> None:
    before = torch.get_num_threads()
    chosen = calibration.fastest_threads(2, dtype)
    assert chosen in (1, 2)
    assert f"train: {chosen} of at most 2 threads a process, as measured (1: " in capfd.readouterr().out
    assert calibration.bfloat16_gain() > 0
    assert torch.get_num_threads() == before


def test_one_thread_is_not_measured(capfd: pytest.CaptureFixture[str]) -> None:
    assert calibration.fastest_threads(1, torch.float32) == 1
    assert capfd.readouterr().out == ""


def test_processes_are_measured_at_the_same_time() -> None:
    candidates = [Cores(1, 1), Cores(2, 1)]
    alone, together = (calibration.measured(candidates, torch.float32)[cores] for cores in candidates)
    # Two cores do at most twice what one does; half of that again is room for what else the machine does.
    assert 0 < together < 3 * alone
