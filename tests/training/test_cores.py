"""As many processes as are estimated to pay: not in a short run, not on shared cores, not beyond memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from fairlead import machine, provenance
from fairlead.training.config import TrainConfig
from fairlead.training.launching import calibration
from fairlead.training.launching.calibration import Cores
from fairlead.training.launching.cores import Work, decide
from fairlead.training.models.size import ModelSize

# A MiniLM: 23 M numbers, 10.6 M of them multiplied with.
SIZE = ModelSize(weights=23_000_000, multiplied=10_600_000, activations=42_000)
# An hour of a core at 50 GFLOP/s, and a fifth of a second.
LONG, SHORT = Work(SIZE, tokens=2_800_000, steps=2_000), Work(SIZE, tokens=160, steps=2)
GIGABYTE = 10**9


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Be on a machine with so many cores, of which `real` have multipliers of their own."""

    def be(cores: int, real: int | None = None, memory: int = 64 * GIGABYTE) -> None:
        def measured(candidates: Sequence[Cores], _dtype: torch.dtype) -> dict[Cores, float]:
            # Products alone are shared out without a loss.
            return {c: 5e10 * min(real or cores, c.processes * c.threads) for c in candidates}

        monkeypatch.setattr(machine, "physical_cores", lambda: cores)
        monkeypatch.setattr(machine, "free_memory", lambda: memory)
        monkeypatch.setattr(calibration, "measured", measured)

    return be


def chosen(work: Work = LONG, before: Any = None, **settings: Any) -> Cores:
    return decide(TrainConfig.parse(settings), before, lambda: work)


@pytest.mark.parametrize(
    ("cores", "settings", "expected"),
    [
        (1, {}, Cores(1, 1)),
        (2, {}, Cores(2, 1)),
        (8, {}, Cores(8, 1)),
        # A batch is cut into eight equal parts; the other cores go to threads.
        (16, {}, Cores(8, 2)),
        (8, {"batch_size": 4}, Cores(4, 2)),
        (8, {"threads": 4}, Cores(2, 4)),
        (8, {"threads": 8}, Cores(1, 8)),
        # As set, whatever it costs.
        (8, {"processes": 1, "threads": 1}, Cores(1, 1)),
        (2, {"processes": 3}, Cores(3, 1)),
        # Shards are for what does not fit, not for speed.
        (2, {"parallel": "fsdp"}, Cores(1, 2)),
    ],
)
def test_a_long_run_has_a_process_a_core(
    on: Callable[..., None], cores: int, settings: dict[str, Any], expected: Cores
) -> None:
    on(cores)
    assert chosen(**settings) == expected


def test_a_short_run_stays_in_one_process(on: Callable[..., None]) -> None:
    on(2)
    assert chosen(SHORT) == Cores(1, 2)
    # Of fifteen seconds another process would save five, and take four to start; of two and a half minutes sixty.
    assert chosen(Work(SIZE, tokens=14_000, steps=10)) == Cores(1, 2)
    assert chosen(Work(SIZE, tokens=160_000, steps=100)) == Cores(2, 1)
    # Steps of a few tokens are over before their gradients are exchanged.
    assert chosen(Work(SIZE, tokens=2_800_000, steps=400_000)) == Cores(1, 2)


def test_cores_that_share_their_multipliers_get_one_process(on: Callable[..., None]) -> None:
    on(2, real=1)
    assert chosen() == Cores(1, 1)


def test_no_more_processes_than_a_batch_has_parts(on: Callable[..., None]) -> None:
    on(8)
    assert chosen(replace(LONG, shares=4)) == Cores(4, 2)


def test_no_more_processes_than_memory_holds(on: Callable[..., None]) -> None:
    at = {processes: LONG.memory(TrainConfig(), processes) for processes in (1, 2, 4)}
    assert 1 * GIGABYTE < at[1] < 2 * GIGABYTE and at[1] < at[2] < 2 * at[1]
    for processes, needed in at.items():
        on(4, memory=round(needed / 0.8) + 1)
        assert chosen().processes == processes


def test_a_run_that_goes_on_keeps_its_processes_and_threads(on: Callable[..., None]) -> None:
    on(4)
    before = provenance.environment("cpu: a Xeon", world_size=2, num_threads=1)
    assert chosen(before=before) == Cores(2, 1)
    assert chosen(SHORT, before) == Cores(2, 1)
    assert chosen(before=before, processes=1) == Cores(1, 1)
    # Not the number of GPUs, nor that of a larger machine.
    assert chosen(before=before.model_copy(update={"hardware": "cuda: NVIDIA H200"})) == Cores(4, 1)
    on(1)
    assert chosen(before=before) == Cores(1, 1)
