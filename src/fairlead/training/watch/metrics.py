"""Sends the metrics of each step to the registry, and to the other sinks, while the run goes on.

The training thread only puts points into a queue. Each sink has a thread that writes them, many at
a time, and that paces itself so that it uses at most 0.3 % of one core. What logging costs is
counted (`MetricLog.seconds`) and logged itself as `logging_share`.
"""

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from fairlead.errors import FairleadError
from fairlead.registry import MetricPoint, open_registry

if TYPE_CHECKING:
    from fairlead.registry import Registry

# A reader sees a running curve, and commits of a few ms are rare.
SECONDS_BETWEEN_WRITES = 1.0
# A writer that used t seconds of processor time rests for t / 0.003.
WRITER_SHARE = 0.003
# How often memory and the time left are noted, steps or not: a reader knows by it that the run lives.
SECONDS_BETWEEN_SAMPLES = 5.0
# What a queue holds while its sink is away, 40 MB; then the oldest go. At 6 points a step, 33,000 steps.
MAX_POINTS = 200_000
# How long the end waits for the last points.
CLOSE_SECONDS = 10.0
# Points that a checkpoint carries for a registry that has not got them yet, 1 MB of JSON.
MAX_POINTS_OF_A_CHECKPOINT = 20_000
SECONDS_BETWEEN_TRIES = 0.2

# Names that say where a run is now, and are no curves.
NUM_STEPS, SECONDS_LEFT, LOGGING_SHARE = "num_steps", "seconds_left", "logging_share"
DATA_WAIT_SHARE = "data_wait_share"


class Sink(Protocol):
    """Where metrics go: the part of the registry that takes them, or a client of another system."""

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Store the points; those of a (name, step) already known are replaced."""


Row = tuple[str, int, float | None, float]


def to_rows(points: Sequence[MetricPoint]) -> list[Row]:
    """Points as JSON can hold them: NaN and infinity become None."""
    return [(p.name, p.step, p.value if math.isfinite(p.value) else None, p.time) for p in points]


def from_rows(rows: Sequence[Row]) -> list[MetricPoint]:
    """The points of `to_rows`."""
    return [MetricPoint(name, step, math.nan if value is None else value, time) for name, step, value, time in rows]


class MetricLog:
    """Takes the metrics of a run and writes them behind the training thread's back.

    A sink that fails is warned of once and tried again; training never stops for it.
    """

    def __init__(
        self,
        sink: Sink,
        run_id: str,
        others: Sequence[Sink] = (),
    ) -> None:
        """`sink` is the registry."""
        self._writers = [Writer(each, run_id) for each in (sink, *others)]
        self._sample: Callable[[], Mapping[str, float]] = dict
        self._step, self._blocked = 0, 0.0
        self._started = time.monotonic()
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample_on, daemon=True, name="metric-sampler")
        self._sampler_seconds = 0.0
        self._sampler.start()

    @property
    def seconds(self) -> float:
        """What logging has cost so far: seconds of the training thread, and processor seconds of the other threads."""
        return self._blocked + self._sampler_seconds + sum(writer.seconds for writer in self._writers)

    @property
    def share(self) -> float:
        """`seconds` as a share of the time since this log was opened, 0 to 1."""
        return self.seconds / max(time.monotonic() - self._started, 1e-9)

    def begin(
        self,
        step: int,
        num_steps: int,
        pending: Sequence[MetricPoint] = (),
        sample: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """Say at which step the run begins or goes on; points of later steps, which are done again, are forgotten.

        `pending` are those that the checkpoint carried; `sample` gives what is noted every five
        seconds, from another thread.
        """
        self._step, self._sample = step, sample
        for writer in self._writers:
            writer.begin(step, pending)
        self._put({NUM_STEPS: num_steps})

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of one step."""
        with self._counted():
            self._step = step
            self._put(values)

    def pending(self) -> list[MetricPoint]:
        """Points that the registry has not got yet: a checkpoint carries them, so that no kill makes a gap."""
        with self._counted():
            return self._writers[0].pending()[-MAX_POINTS_OF_A_CHECKPOINT:]

    def close(self, seconds: float = CLOSE_SECONDS, finished: bool = False) -> None:
        """Write the rest, within `seconds`, and end the threads; says how many points could not be written.

        `finished` is what sinks note as the run's end.
        """
        self._over.set()
        self._sampler.join(seconds)
        self._put({**self._sample(), LOGGING_SHARE: self.share})
        deadline = time.monotonic() + seconds
        for writer in self._writers:
            writer.close(max(0.0, deadline - time.monotonic()), finished)

    def _put(self, values: Mapping[str, float]) -> None:
        now = time.time()
        points = [MetricPoint(name, self._step, value, now) for name, value in values.items()]
        for writer in self._writers:
            writer.put(points)

    def _sample_on(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_SAMPLES):
            self._put({**self._sample(), LOGGING_SHARE: self.share})
            self._sampler_seconds = time.thread_time()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._blocked += time.perf_counter() - began


class RegistrySink:
    """The registry, opened when there is something to write: one that is away at the start stops nothing."""

    name = "registry"

    def __init__(self) -> None:
        self._registry: Registry | None = None

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Store the points."""
        self._open().log_metrics(run_id, points)

    def rewind(self, run_id: str, step: int) -> None:
        """Forget the points after `step`."""
        self._open().drop_metrics(run_id, step)

    def close(self, _finished: bool) -> None:
        """Close the connections."""
        if self._registry:
            self._registry.close()

    def _open(self) -> "Registry":
        self._registry = self._registry or open_registry()
        return self._registry


class Writer:
    """One sink, its queue and the thread that empties it."""

    def __init__(self, sink: Sink, run_id: str) -> None:
        self._sink, self._run_id, self.name = sink, run_id, getattr(sink, "name", "registry")
        self._points: deque[MetricPoint] = deque(maxlen=MAX_POINTS)
        self._batch: list[MetricPoint] = []
        self._lock = threading.Lock()
        self._rewind_to: int | None = None
        self._closing = threading.Event()
        self._deadline = 0.0
        self._warned = self._finished = False
        self.seconds = 0.0
        self._thread = threading.Thread(target=self._write_on, daemon=True, name=f"metrics-{self.name}")
        self._thread.start()

    def begin(self, step: int, pending: Sequence[MetricPoint]) -> None:
        """Have the points after `step` forgotten before the next are written, and write `pending` first."""
        self._rewind_to = step
        self.put(pending)

    def put(self, points: Sequence[MetricPoint]) -> None:
        """Queue points; the oldest are dropped when the sink has been away for too long."""
        with self._lock:
            self._points.extend(points)

    def pending(self) -> list[MetricPoint]:
        """The points that are not written yet."""
        with self._lock:
            return [*self._batch, *self._points]

    def close(self, seconds: float, finished: bool) -> None:
        """Write the rest and end the thread, within `seconds`."""
        self._finished = finished
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self._thread.join(seconds)
        if left := self.pending():
            _warn(f"{self.name}: the last {len(left)} points of the curves could not be written to it")

    def _write_on(self) -> None:
        pause = SECONDS_BETWEEN_WRITES
        while not self._closing.wait(pause):
            self._write()
            pause = max(SECONDS_BETWEEN_WRITES, (time.thread_time() - self.seconds) / WRITER_SHARE)
            self.seconds = time.thread_time()
        while self.pending() and not self._write() and time.monotonic() < self._deadline:
            time.sleep(SECONDS_BETWEEN_TRIES)
        self._close_sink()

    def _write(self) -> bool:
        """Write what there is; a failure is warned of once, and the points are kept."""
        with self._lock:
            self._batch += self._points
            self._points.clear()
            del self._batch[:-MAX_POINTS]
        try:
            if self._batch:
                self._store(self._batch)
        # A client of another system may raise anything; nothing of it may reach training.
        except Exception as error:
            if not self._warned:
                self._warned = True
                _warn(f"{self._sentence(error)}; training goes on and tries again")
            return False
        with self._lock:
            self._batch = []
        return True

    def _store(self, batch: Sequence[MetricPoint]) -> None:
        rewind = getattr(self._sink, "rewind", None)
        if self._rewind_to is not None and rewind:
            rewind(self._run_id, self._rewind_to)
        self._rewind_to = None
        self._sink.log_metrics(self._run_id, batch)

    def _close_sink(self) -> None:
        close = getattr(self._sink, "close", None)
        try:
            if close:
                close(self._finished)
        except Exception as error:
            _warn(self._sentence(error))

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, FairleadError):
            return str(error)
        return f"{self.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
