"""A request while it is answered: its texts, what is known of them, and who waits for it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fairlead.inference.observing import MARKS, Marks

TokenIds = list[int]


@dataclass(slots=True, eq=False)
class Job:
    """One request. Its future belongs to the event loop of its caller; everything else may be any thread's."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[list[Any]]"
    results: list[Any]
    """What was computed of each text, in order; None for those that are not done."""
    remaining: int
    """Texts that are not done."""
    tokens: int
    """Tokens of all its texts, as estimated when it came."""
    is_long: bool
    """Whether it was cut into slices that take turns with other requests."""
    release: "Callable[[Job], None]"
    """Gives its place in the queue back; called once on its event loop, or in any thread when the loop has ended."""
    embeds: bool = False
    """Whether its texts are answered with their embeddings."""
    deadline: float | None = None
    """time.perf_counter() from which on nobody waits for it."""
    arrived: float = field(default_factory=time.perf_counter)
    """time.perf_counter() when it came."""
    error: Exception | None = None
    """What the first of its texts failed with."""
    marks: Marks | None = field(default_factory=MARKS.get)
    """Where its caller wants to know what was done when."""
    ended: bool = False
    """Whether its place was given back: it is answered, has failed, or its caller has left."""

    def wanted(self, now: float) -> bool:
        """Whether somebody waits for the rest of it."""
        return not self.ended and self.error is None and (self.deadline is None or now < self.deadline)

    def end(self) -> None:
        """Give the place back, once."""
        if not self.ended:
            self.ended = True
            self.release(self)

    def fail(self, error: Exception) -> None:
        """Tell its caller, from any thread."""
        self.error = error
        hand_back([self])


@dataclass(slots=True, eq=False)
class Item:
    """One text of a job."""

    job: Job
    index: int
    """Its place among the job's texts."""
    ids: TokenIds
    """Its token ids, one at least."""
    length: int
    """How many."""


def hand_back(jobs: Iterable[Job]) -> None:
    """Give finished jobs to their callers, waking each event loop once. Called from any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, finished in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, finished)
        except RuntimeError:
            # The loop is closed, and its callers with it.
            for job in finished:
                job.end()


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        job.end()
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.results)
