"""Metrics reach the registry in batches, behind the training thread's back, and stop nothing when they cannot."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fairlead.errors import RegistryError
from fairlead.registry import MetricPoint, open_registry
from fairlead.training.watch import metrics
from fairlead.training.watch.metrics import MetricLog, RegistrySink, from_rows, to_rows
from tests.registry.samples import start_run

STEPS = 500


class Flaky:
    """A sink that can be out of order."""

    name = "flaky"

    def __init__(self) -> None:
        self.broken = False
        self.tries = 0
        self.writes: list[list[MetricPoint]] = []

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        self.tries += 1
        if self.broken:
            raise RegistryError("registry: it is away; wait")
        self.writes.append(list(points))

    @property
    def steps(self) -> list[int]:
        return [point.step for points in self.writes for point in points if point.name == "loss"]


@pytest.fixture
def sink() -> Flaky:
    return Flaky()


@pytest.fixture
def open_log() -> Iterator[Callable[..., MetricLog]]:
    """Opens logs that are closed at the end, for their threads' sake."""
    logs = []

    def open_one(*sinks: object) -> MetricLog:
        logs.append(MetricLog(sinks[0], "run_1", others=sinks[1:]))  # type: ignore[arg-type]
        return logs[-1]

    yield open_one
    for log in logs:
        log.close(0)


def test_points_are_written_together(sink: Flaky, open_log: Callable[..., MetricLog]) -> None:
    log = open_log(sink)
    for step in range(STEPS):
        log.add(step, {"loss": 1.0, "rate": 2.0})
    log.close(30)
    assert sink.steps == list(range(STEPS)) and len(sink.writes) <= 5


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_points_arrive_while_the_run_goes_on(sink: Flaky, open_log: Callable[..., MetricLog]) -> None:
    log = open_log(sink)
    log.add(1, {"loss": 1.0})
    assert [point.name for point in log.pending()] == ["loss"]
    wait_for(lambda: sink.steps == [1])
    wait_for(lambda: log.pending() == [])


def test_a_sink_that_is_away_is_warned_of_once_and_gets_everything_in_the_end(
    sink: Flaky, open_log: Callable[..., MetricLog], capfd: pytest.CaptureFixture[str]
) -> None:
    sink.broken = True
    log = open_log(sink)
    log.add(0, {"loss": 1.0})
    wait_for(lambda: sink.tries == 2)
    log.add(1, {"loss": 1.0})
    assert sink.writes == [] and [point.step for point in log.pending()] == [0, 1]
    sink.broken = False
    log.close(30)
    assert sink.steps == [0, 1] and log.pending() == []
    assert capfd.readouterr().err.count("registry: it is away; wait; training goes on and tries again") == 1


def test_one_that_stays_away_is_said_at_the_end(
    sink: Flaky, open_log: Callable[..., MetricLog], capfd: pytest.CaptureFixture[str]
) -> None:
    sink.broken = True
    log = open_log(sink)
    log.add(1, {"loss": 1.0})
    log.close(0.5)
    assert "flaky: the last 2 points of the curves could not be written to it" in capfd.readouterr().err


def test_a_sink_that_hangs_keeps_no_other_from_writing(sink: Flaky, open_log: Callable[..., MetricLog]) -> None:
    class Stuck(Flaky):
        def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
            threading.Event().wait(30)

    log = open_log(sink, Stuck())
    log.add(1, {"loss": 1.0})
    wait_for(lambda: sink.steps == [1])
    assert sink.steps == [1]


def test_a_full_queue_loses_its_oldest_points(
    sink: Flaky, open_log: Callable[..., MetricLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MAX_POINTS", 10)
    sink.broken = True
    log = open_log(sink)
    for step in range(25):
        log.add(step, {"loss": 1.0})
    wait_for(lambda: sink.tries == 1)
    log.add(25, {"loss": 1.0})
    sink.broken = False
    log.close(30)
    assert sink.steps == list(range(17, 26))  # and, at the end, what logging has cost


def test_points_go_with_a_checkpoint_and_come_back(sink: Flaky, open_log: Callable[..., MetricLog]) -> None:
    sink.broken = True
    log = open_log(sink)
    log.add(1, {"loss": 0.5, "norm": float("inf")})
    rows = json.loads(json.dumps(to_rows(log.pending())))
    resumed = open_log(after := Flaky())
    resumed.begin(1, 9, from_rows(rows))
    resumed.close(30)
    written = [(point.name, point.step, point.value) for point in after.writes[0][:2]]
    assert written[0] == ("loss", 1, 0.5) and written[1][:2] == ("norm", 1) and math.isnan(written[1][2])


def test_steps_that_are_done_again_are_replaced(home: Path, open_log: Callable[..., MetricLog]) -> None:
    with open_registry() as registry:
        start_run(registry, "run_1")
        for first, last, value in ((0, 9, 1.0), (4, 6, 2.0)):
            log = open_log(RegistrySink())
            log.begin(first, 20)
            for step in range(first + 1, last + 1):
                log.add(step, {"loss": value})
            log.close(30)
        losses = [(point.step, point.value) for point in registry.metric_history("run_1", "loss")]
        assert losses == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0), (6, 2.0)]


def test_the_cost_is_counted_and_noted(sink: Flaky, open_log: Callable[..., MetricLog]) -> None:
    log = open_log(sink)
    for step in range(100):
        log.add(step, {"loss": 1.0})
    assert 0 < log.seconds < 1 and log.share > 0
    log.close(30)
    shares = [p.value for points in sink.writes for p in points if p.name == "logging_share"]
    assert len(shares) == 1 and 0 < shares[0] < 1
