"""Texts on their way to tokens: what waits to be tokenized, and how it is done.

The computing threads tokenize between two batches: what has come meanwhile in one call, before the next batch is put
together. The tokenizers are Rust and let go of Python's lock. A long request is tokenized in slices, one between two
batches of others.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairlead.errors import DataError
from fairlead.inference.flows import Flow
from fairlead.inference.jobs import Item, Job
from fairlead.inference.room import SLICED_CHARACTERS


@dataclass(slots=True, eq=False)
class Slice:
    """Texts of a job that are tokenized together."""

    flow: Flow
    job: Job
    indices: Sequence[int]
    texts: list[str]


class Inbox:
    """What waits to be tokenized. Its users hold the scheduler's lock."""

    def __init__(self) -> None:
        self._short: deque[Slice] = deque()
        self._long: deque[Slice] = deque()

    def __bool__(self) -> bool:
        return bool(self._short or self._long)

    def put(self, part: Slice) -> None:
        """Add a slice at the end."""
        (self._long if part.job.is_long else self._short).append(part)

    def take(self, with_long: bool) -> list[Slice]:
        """The short requests that have come, as many as are tokenized in some 10 ms, and one slice of a long one."""
        parts: list[Slice] = []
        characters = 0
        while self._short and characters < SLICED_CHARACTERS:
            parts.append(self._short.popleft())
            characters += sum(map(len, parts[-1].texts))
        if self._long and with_long:
            parts.append(self._long.popleft())
        return parts


def tokenized(parts: Sequence[Slice]) -> Iterator[tuple[Flow, list[Item]]]:
    """Their texts as tokens, by flow; a text that cannot be tokenized fails its job alone."""
    for flow in {id(part.flow): part.flow for part in parts}.values():
        yield flow, _read(flow, [part for part in parts if part.flow is flow])


def _read(flow: Flow, parts: list[Slice]) -> list[Item]:
    now = time.perf_counter()
    parts = [part for part in parts if part.job.wanted(now)]
    if not parts:
        return []
    texts = [text for part in parts for text in part.texts]
    try:
        rows = flow.read(texts)
        if len(rows) != len(texts):
            raise ValueError(f"{len(texts)} texts gave {len(rows)} rows of tokens")
    except Exception as error:
        if len(parts) > 1:
            return [item for part in parts for item in _read(flow, [part])]
        _refuse(parts[0].job, error)
        return []
    _mark(parts, now)
    places = [(part.job, index) for part in parts for index in part.indices]
    return [Item(job, index, ids, len(ids)) for (job, index), ids in zip(places, rows, strict=True)]


def _refuse(job: Job, error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}"[:200]
    job.fail(DataError(f"text: it cannot be tokenized ({reason}); correct it"))


def _mark(parts: Sequence[Slice], started: float) -> None:
    ended = time.perf_counter()
    for part in parts:
        if marks := part.job.marks:
            marks.reading, marks.read = marks.reading or started, ended
