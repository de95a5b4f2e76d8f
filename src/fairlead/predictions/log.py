"""The prediction log of one process: a bounded queue, and a thread that writes it to the store.

`put` never waits: it is called on the request path. While the store is down records are kept up to the bound and
tried again, ever less often; what does not fit is dropped and counted. A file is written in one step, so that a kill
loses what was not written and never leaves half a file.
"""

import logging
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from fairlead.errors import FairleadError
from fairlead.predictions.config import PredictionLogConfig
from fairlead.predictions.events import PREFIX, Answered, to_parquet
from fairlead.predictions.ids import hour_of, milliseconds_of, server_of
from fairlead.storage import ObjectStore

logger = logging.getLogger("fairlead.predictions")

HOUR_MILLISECONDS = 3_600_000
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 60.0

Outcome = Literal["written", "dropped"]
Count = Callable[[Outcome, int], None]


class PredictionLog:
    """Safe to use from any thread; `close` writes what waits."""

    def __init__(self, store: ObjectStore, config: PredictionLogConfig, count: Count = lambda outcome, number: None):
        """`count` is told the number of records written and dropped, from any thread."""
        self._store, self._config, self._count = store, config, count
        self._queue: deque[Answered] = deque()
        # What a question for an id is answered from: all that waits, and what was written last.
        self._recent: OrderedDict[str, Answered] = OrderedDict()
        self._pending = self._pending_bytes = self._recent_records = self._recent_bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._closing_at: float | None = None
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    @property
    def config(self) -> PredictionLogConfig:
        """Its settings."""
        return self._config

    @property
    def pending(self) -> int:
        """Records that are not written."""
        return self._pending

    def put(self, answered: Answered) -> bool:
        """Keep what was answered, or drop it where there is no room; says which. Never waits for the store."""
        number, size = len(answered.answers), answered.num_text_bytes()
        with self._lock:
            room = self._pending + number <= self._config.max_pending_records
            if room and self._pending_bytes + size <= self._config.max_pending_bytes and self._closing_at is None:
                self._queue.append(answered)
                self._pending += number
                self._pending_bytes += size
                self._remember(answered, number, size)
                # The writer sleeps until there is a batch, or until the oldest record has waited long enough.
                if len(self._queue) == 1 or self._pending >= self._config.batch_records > self._pending - number:
                    self._wake.notify()
                return True
        self._drop(number, "there is no room for more")
        return False

    def get(self, prediction_id: str) -> Answered | None:
        """What this process answered of late, written or not."""
        with self._lock:
            return self._recent.get(prediction_id)

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, for so many seconds at most; what is left then is dropped and counted."""
        with self._lock:
            self._closing_at = time.monotonic() + seconds
            self._wake.notify()
        self._thread.join(seconds + 1)
        with self._lock:
            left, self._pending = self._pending, 0
            self._queue.clear()
        if left:
            self._drop(left, "the server ends and the store does not answer")

    def _remember(self, answered: Answered, number: int, size: int) -> None:
        self._recent[answered.prediction_id] = answered
        self._recent_records += number
        self._recent_bytes += size
        limits = self._config.max_pending_records, self._config.max_pending_bytes
        while len(self._recent) > 1 and (self._recent_records > limits[0] or self._recent_bytes > limits[1]):
            _, oldest = self._recent.popitem(last=False)
            self._recent_records -= len(oldest.answers)
            self._recent_bytes -= oldest.num_text_bytes()

    def _run(self) -> None:
        number = 0
        while batch := self._next_batch():
            for answered in _by_folder(batch):
                self._write(file_key(number, answered), answered)
                number += 1

    def _next_batch(self) -> list[Answered]:
        """Wait for enough records or long enough; none when the log is closed and everything is taken."""
        config = self._config
        with self._lock:
            while not self._queue and self._closing_at is None:
                self._wake.wait()
            due = time.monotonic() + config.flush_seconds
            while self._pending < config.batch_records and self._closing_at is None and time.monotonic() < due:
                self._wake.wait(due - time.monotonic())
            batch: list[Answered] = []
            number = 0
            while self._queue and (not batch or number + len(self._queue[0].answers) <= config.batch_records):
                batch.append(self._queue.popleft())
                number += len(batch[-1].answers)
            return batch

    def _write(self, key: str, answered: list[Answered]) -> None:
        """Write a file, trying again until it is there or the log's time is over."""
        backoff = FIRST_BACKOFF_SECONDS
        while (error := self._attempt(key, answered)) is not None:
            # What is no failure of the store is one of ours, and would come again.
            if not isinstance(error, FairleadError | OSError):
                logger.error("prediction log: %s cannot be written", key, exc_info=error)
                self._settle(answered, "dropped")
                return
            if not self._wait_to_retry(backoff, error):
                return
            backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
        if self._warned:
            logger.info("prediction log: %s can be written again", self._store.url)
        self._warned = False
        self._settle(answered, "written")

    def _attempt(self, key: str, answered: list[Answered]) -> Exception | None:
        try:
            # Made anew for each attempt: kept, its bytes would be memory that no bound counts.
            self._store.put_bytes(key, to_parquet(answered))
        except Exception as error:
            return error
        return None

    def _wait_to_retry(self, backoff: float, error: Exception) -> bool:
        """Wait before the next attempt; False when there is no time for one."""
        if not self._warned:
            logger.warning("prediction log: it cannot be written (%s); records are kept and it is tried again", error)
        self._warned = True
        until = time.monotonic() + random.uniform(0.5, 1) * backoff  # noqa: S311 - spreads servers of one store
        with self._lock:
            # Records that arrive wake this thread too; only the end does cut the wait short.
            while (now := time.monotonic()) < until and self._closing_at is None:
                self._wake.wait(until - now)
            if self._closing_at is None:
                return True
            left = self._closing_at - time.monotonic()
            if left > 0:
                self._wake.wait(min(left, FIRST_BACKOFF_SECONDS))
            return left > 0

    def _settle(self, answered: list[Answered], outcome: Outcome) -> None:
        number = sum(len(one.answers) for one in answered)
        with self._lock:
            self._pending -= number
            self._pending_bytes -= sum(one.num_text_bytes() for one in answered)
        if outcome == "dropped":
            self._drop(number, "they cannot be written")
        else:
            self._count("written", number)

    def _drop(self, number: int, reason: str) -> None:
        self._count("dropped", number)
        logger.debug("prediction log: %d records are dropped: %s", number, reason)


def _by_folder(batch: Iterable[Answered]) -> list[list[Answered]]:
    """The files of a batch: one a project and hour."""
    folders: dict[tuple[str, int], list[Answered]] = {}
    for answered in batch:
        hour = milliseconds_of(answered.prediction_id) // HOUR_MILLISECONDS
        folders.setdefault((answered.project, hour), []).append(answered)
    return list(folders.values())


def file_key(number: int, answered: Sequence[Answered]) -> str:
    """The key of a process's file `number`, which holds these requests of one project and hour."""
    first = answered[0]
    times = [milliseconds_of(one.prediction_id) for one in answered]
    name = f"{server_of(first.prediction_id)}-{number:06x}-{min(times):012x}-{max(times):012x}.parquet"
    return f"{PREFIX}{first.project}/{hour_of(times[0])}/{name}"
