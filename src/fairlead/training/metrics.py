"""Sends the metrics of each step to the registry while the run goes on, many at a time."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from fairlead.errors import FairleadError
from fairlead.registry import MetricPoint

# Whichever comes first: a reader sees a running curve, and a commit of a few ms is rare.
STEPS_PER_WRITE = 50
SECONDS_BETWEEN_WRITES = 1.0


class Sink(Protocol):
    """The part of the registry that takes metrics."""

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Store the points; those of a (name, step) already known are replaced."""


class MetricLog:
    """Collects metrics and writes them in batches; a write that fails is warned of once and tried again."""

    def __init__(self, sink: Sink, run_id: str) -> None:
        self._sink, self._run_id = sink, run_id
        self._points: list[MetricPoint] = []
        self._steps = 0
        self._written = time.monotonic()
        self._warned = False

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of one step, and write when enough have come together."""
        now = time.time()
        self._points += [MetricPoint(name, step, value, now) for name, value in values.items()]
        self._steps += 1
        if self._steps >= STEPS_PER_WRITE or time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
            self.flush()

    def flush(self) -> None:
        """Write what there is; a failure is warned of and the points are kept."""
        try:
            self.close()
        except FairleadError as error:
            if not self._warned:
                print(f"warning: {error}; training goes on and tries again", file=sys.stderr, flush=True)
            self._warned = True

    def close(self) -> None:
        """Write what there is. Raises what the registry raises."""
        self._steps, self._written = 0, time.monotonic()
        if self._points:
            self._sink.log_metrics(self._run_id, self._points)
            self._points = []
