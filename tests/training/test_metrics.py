"""Metrics reach the registry in batches, and a registry that fails is not passed over."""

from collections.abc import Sequence

import pytest

from fairlead.errors import RegistryError
from fairlead.registry import MetricPoint
from fairlead.training.metrics import STEPS_PER_WRITE, MetricLog


class Flaky:
    """A sink that can be out of order."""

    def __init__(self) -> None:
        self.broken = False
        self.writes: list[int] = []

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        if self.broken:
            raise RegistryError("registry: it is away; wait")
        self.writes.append(len(points))


def test_points_are_written_together() -> None:
    sink = Flaky()
    log = MetricLog(sink, "run_1")
    for step in range(STEPS_PER_WRITE + 3):
        log.add(step, {"loss": 1.0, "rate": 2.0})
    log.close()
    assert sum(sink.writes) == 2 * (STEPS_PER_WRITE + 3) and len(sink.writes) <= 3


def test_a_failing_registry_warns_once_keeps_the_points_and_fails_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    sink = Flaky()
    sink.broken = True
    log = MetricLog(sink, "run_1")
    log.add(1, {"loss": 1.0})
    log.flush()
    log.flush()
    assert capfd.readouterr().err.count("it is away") == 1
    with pytest.raises(RegistryError):
        log.close()
    sink.broken = False
    log.close()
    assert sink.writes == [1]
