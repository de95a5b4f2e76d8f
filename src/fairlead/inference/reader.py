"""The one thread that tokenizes, beside the event loop and the computing thread.

The tokenizers are Rust and let go of Python's lock. What has come meanwhile is tokenized in one call; a long request
is tokenized in slices, one between two calls for others.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from fairlead.errors import DataError
from fairlead.inference.flows import Flow
from fairlead.inference.jobs import Item, Job
from fairlead.inference.room import SLICED_CHARACTERS
from fairlead.inference.scheduler import Scheduler


@dataclass(slots=True, eq=False)
class Slice:
    """Texts of a job that are tokenized together."""

    flow: Flow
    job: Job
    indices: Sequence[int]
    texts: list[str]


class Reader:
    """Takes texts, puts their tokens into the scheduler's flows."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._inbox: queue.SimpleQueue[Slice | None] = queue.SimpleQueue()
        self._long: deque[Slice] = deque()
        self._thread = threading.Thread(target=self._run, daemon=True, name="tokenizing")
        self._thread.start()

    def put(self, part: Slice) -> None:
        """Tokenize these texts and let them wait in their flow."""
        self._inbox.put(part)

    def stop(self) -> None:
        """End after the call that runs."""
        self._inbox.put(None)

    def _run(self) -> None:
        while (parts := self._receive()) is not None:
            if self._long:
                parts.append(self._long.popleft())
            self._read_by_flow(parts)
            # Or the last request, and with it its model, would live until the next one comes.
            del parts

    def _read_by_flow(self, parts: list[Slice]) -> None:
        for flow in {id(part.flow): part.flow for part in parts}.values():
            self._read(flow, [part for part in parts if part.flow is flow])

    def _receive(self) -> list[Slice] | None:
        """The short requests that have come, one at least unless a long one waits; None at the end."""
        parts: list[Slice] = []
        characters = 0
        while characters < SLICED_CHARACTERS:
            try:
                part = self._inbox.get(block=not parts and not self._long)
            except queue.Empty:
                break
            if part is None:
                return None
            if part.job.is_long:
                self._long.append(part)
            else:
                parts.append(part)
                characters += sum(map(len, part.texts))
        return parts

    def _read(self, flow: Flow, parts: list[Slice]) -> None:
        now = time.perf_counter()
        parts = [part for part in parts if part.job.wanted(now)]
        texts = [text for part in parts for text in part.texts]
        try:
            rows = flow.read(texts)
            if len(rows) != len(texts):
                raise ValueError(f"{len(texts)} texts gave {len(rows)} rows of tokens")
        except Exception as error:
            if len(parts) == 1:
                return self._refuse(parts[0].job, error)
            for part in parts:
                self._read(flow, [part])
            return None
        _mark(parts, now)
        places = [(part.job, index) for part in parts for index in part.indices]
        items = [Item(job, index, ids, len(ids)) for (job, index), ids in zip(places, rows, strict=True)]
        return self._scheduler.put(flow, items)

    def _refuse(self, job: Job, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"[:200]
        job.fail(DataError(f"text: it cannot be tokenized ({reason}); correct it"))


def _mark(parts: Sequence[Slice], started: float) -> None:
    ended = time.perf_counter()
    for part in parts:
        if marks := part.job.marks:
            marks.reading, marks.read = marks.reading or started, ended
