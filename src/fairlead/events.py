"""What a running stage tells whoever started it: progress, results and failures.

A stage emits events. When `FAIRLEAD_EVENTS` names a file, each event is appended to it as one
JSON line and the command line draws it; otherwise progress becomes a log line every few seconds,
which is what a pod wants. Emitting never fails the stage.

    {"event": "progress", "stage": "train", "done": 120, "total": 400, "unit": "steps", "note": "loss 1.31"}
    {"event": "result",   "stage": "ingest", "rows": {"name": value, ...}}
    {"event": "failed",   "stage": "ingest", "message": "...", "kind": "DataError", "exit_code": 2, "retryable": false}
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from fairlead.names import EVENTS_ENV

T = TypeVar("T")

# Often enough to look alive, rarely enough to cost nothing (0.1 ms an event).
SECONDS_BETWEEN_EVENTS = 0.2
SECONDS_BETWEEN_LOG_LINES = 5.0


def emit(event: str, stage: str, **fields: Any) -> None:
    """Append one event to the events file, if there is one."""
    path = os.environ.get(EVENTS_ENV)
    if not path:
        return
    line = json.dumps({"event": event, "stage": stage, **fields}, default=str) + "\n"
    with contextlib.suppress(OSError):
        # One write of one line with O_APPEND is atomic among the processes of a stage.
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, _after_a_cut_line(fd) + line.encode())
        finally:
            os.close(fd)


def _after_a_cut_line(fd: int) -> bytes:
    """A newline when the file ends within a line, as a full disk leaves it: the next event must not be lost too."""
    size = os.fstat(fd).st_size
    return b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""


def parse(line: bytes) -> dict[str, Any] | None:
    """The event of one line of an events file, or None when a full disk has left only a part of it."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def result(stage: str, rows: dict[str, Any]) -> None:
    """Say what a stage found: the rows of the table that the command line prints."""
    emit("result", stage, rows=rows)
    print(f"{stage}: " + ", ".join(f"{name}={value}" for name, value in rows.items()), flush=True)


class Progress:
    """Counts work done towards a total, and tells at most five times a second."""

    def __init__(self, stage: str, what: str, total: int | None, unit: str) -> None:
        """`total` is None when it is not known beforehand."""
        self.stage, self.what, self.total, self.unit = stage, what, total, unit
        self.done = 0
        self._started = time.monotonic()
        self._told = self._logged = self._started

    def begin(self) -> None:
        """Tell now, before any work is done: for work that may say nothing until its end."""
        self._tell("")
        if not os.environ.get(EVENTS_ENV):
            print(f"{self.what}: {self.total or 'all'} {self.unit}", file=sys.stderr, flush=True)

    def advance(self, count: int = 1, note: str | Callable[[], str] = "", seconds_left: float | None = None) -> None:
        """Add `count` units; `note` is shown beside the bar (`loss 1.31`), and is called only when it is.

        `seconds_left` is for who knows it better than the rate of the last seconds says.
        """
        self.done += count
        now = time.monotonic()
        if now - self._told >= SECONDS_BETWEEN_EVENTS or self.done == self.total:
            self._told = now
            self._tell(_text(note), seconds_left)
        if not os.environ.get(EVENTS_ENV) and now - self._logged >= SECONDS_BETWEEN_LOG_LINES:
            self._logged = now
            rate = self.done / (now - self._started)
            of = f"/{self.total}" if self.total else ""
            print(
                f"{self.what}: {self.done}{of} {self.unit}, {rate:.1f} {self.unit}/s {_text(note)}",
                file=sys.stderr,
                flush=True,
            )

    def _tell(self, note: str, seconds_left: float | None = None) -> None:
        known = {} if seconds_left is None else {"seconds_left": round(seconds_left, 1)}
        emit(
            "progress",
            self.stage,
            what=self.what,
            done=self.done,
            total=self.total,
            unit=self.unit,
            note=note,
            **known,
        )


def _text(note: str | Callable[[], str]) -> str:
    return note if isinstance(note, str) else note()


def track(items: Iterable[T], stage: str, what: str, total: int | None, unit: str) -> Iterator[T]:
    """Yield `items` and report progress as they are consumed."""
    progress = Progress(stage, what, total, unit)
    for item in items:
        yield item
        progress.advance()
