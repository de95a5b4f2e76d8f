"""A loaded version that answers requests: they are let in, tokenized, batched with each other, and answered."""

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

from fairlead.errors import DataError, DeadlineExceeded, Overloaded
from fairlead.inference.answers import Answer, Embedded
from fairlead.inference.batches import Batches
from fairlead.inference.calibration import Calibration, seconds_of
from fairlead.inference.capacity import Capacity
from fairlead.inference.config import ServingConfig
from fairlead.inference.engine import Engine
from fairlead.inference.flows import Flow, Running
from fairlead.inference.jobs import Item, Job, TokenIds
from fairlead.inference.observing import Observer, Unobserved
from fairlead.inference.room import SLICED_CHARACTERS, Room
from fairlead.inference.tokenizing import Slice
from fairlead.inference.workers import Workers
from fairlead.machine import physical_cores

logger = logging.getLogger("fairlead.inference")

# Requests in slices get half of what others get while both wait.
SLICED_WEIGHT = 0.5
DRAIN_POLL_SECONDS = 0.01


class Served:
    """A loaded version under its name on the endpoint."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        config: ServingConfig | None = None,
        workers: Workers | None = None,
        capacity: Capacity | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Measures the capacity where none is given, which takes `calibration_seconds` at most.

        `workers` are shared by all that one process serves; its own by default.
        """
        self.name = name
        self.engine = engine
        self.manifest = engine.manifest
        self.variant = engine.variant
        self.config = config or ServingConfig()
        self._own_workers = Workers(self.config.threads) if workers is None else None
        self._workers = workers or cast(Workers, self._own_workers)
        self.capacity = self._reuse(capacity) if capacity else self._calibrate()
        self.room = room = Room(name, self.capacity, self.config)
        self._observer = observer or Unobserved()
        self._batches = batches = Batches(name, engine, self.room, self._observer, self.capacity)
        running = Running()
        self._whole, self._sliced = (
            Flow(weight, self.capacity, batches.read, batches.compute, lambda: room.batch_tokens, running)
            for weight in (1.0, SLICED_WEIGHT)
        )
        self._workers.scheduler.add(self._whole, self._sliced)
        # Or at the end of the last reference, when another version has taken its place.
        self._remove = weakref.finalize(self, _take_away, self._workers, self._own_workers, self._whole, self._sliced)
        self._remove.atexit = False
        self._jobs: set[Job] = set()
        self._closed = False
        logger.info("%s as %s: %s", self.manifest.name, self.variant, self.capacity.describe())

    async def embed(
        self, texts: Sequence[str] | Sequence[TokenIds], deadline_seconds: float | None = None
    ) -> list[Embedded]:
        """The same as `predict`, with the embedding of each text, where the engine has an `embedding_size`."""
        embedded: list[Embedded] = await self._ask(texts, deadline_seconds, embeds=True)
        return embedded

    async def predict(
        self, texts: Sequence[str] | Sequence[TokenIds], deadline_seconds: float | None = None
    ) -> list[Answer]:
        """One answer a text (or its token ids), in order.

        Raises Overloaded at once when there is no room, DeadlineExceeded when the answer would come later than
        `deadline_seconds` from now, DataError for token ids that the model has not, InferenceError when the model
        fails. A caller that is cancelled gives its place in the queue back.
        """
        answers: list[Answer] = await self._ask(texts, deadline_seconds, embeds=False)
        return answers

    async def _ask(
        self, texts: Sequence[str] | Sequence[TokenIds], deadline_seconds: float | None, embeds: bool
    ) -> list[Any]:
        if not texts:
            return []
        job = self._enter(texts, deadline_seconds, embeds)
        timer = None if deadline_seconds is None else job.loop.call_later(deadline_seconds, self._expire, job)
        try:
            self._send(job, texts)
            return await job.future
        except asyncio.CancelledError:
            self._refused("cancelled")
            raise
        finally:
            job.end()
            if timer is not None:
                timer.cancel()

    @property
    def failure(self) -> str:
        """Why it answers nothing of late; empty while it works."""
        return self._batches.failure

    async def drain(self) -> None:
        """Wait until all that was accepted is answered."""
        while self._jobs:
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    def close(self) -> None:
        """Fail what still waits, and accept nothing more."""
        self._closed = True
        self._remove()
        for job in list(self._jobs):
            job.fail(self._unavailable())

    def _unavailable(self) -> Overloaded:
        return Overloaded(f"{self.name}: {self.manifest.name} is served no more; send the request again")

    def _enter(self, texts: Sequence[str] | Sequence[TokenIds], deadline_seconds: float | None, embeds: bool) -> Job:
        """Take a place in the queue."""
        if self._closed:
            raise self._unavailable()
        characters = 0
        if isinstance(texts[0], str):
            tokens, characters = self.room.estimate(cast(Sequence[str], texts)), sum(map(len, texts))
        else:
            tokens = self._count(cast(Sequence[TokenIds], texts))
        try:
            is_long = self.room.take(tokens, self._share(), deadline_seconds, characters)
        except Overloaded as error:
            self._refused("deadline" if isinstance(error, DeadlineExceeded) else "overloaded")
            raise
        loop = asyncio.get_running_loop()
        job = Job(loop, loop.create_future(), [None] * len(texts), len(texts), tokens, is_long, self._leave, embeds)
        if deadline_seconds is not None:
            job.deadline = job.arrived + deadline_seconds
        self._jobs.add(job)
        return job

    def _leave(self, job: Job) -> None:
        self._jobs.discard(job)
        self.room.give(job)
        if not job.remaining and not job.error and not job.is_long:
            self.room.saw_answer(len(job.results), job.tokens, time.perf_counter() - job.arrived)

    def _share(self) -> float:
        """Of the machine that this model gets now."""
        return self._workers.scheduler.share(self._whole, self._sliced)

    def _send(self, job: Job, texts: Sequence[str] | Sequence[TokenIds]) -> None:
        """Hand the texts on to be tokenized, or what is tokenized to be computed."""
        flow = self._sliced if job.is_long else self._whole
        if not isinstance(texts[0], str):
            items = [Item(job, index, ids, len(ids)) for index, ids in enumerate(cast(Sequence[TokenIds], texts))]
            return self._workers.scheduler.put(flow, items)
        strings = cast(Sequence[str], texts)
        for indices in self._slices(strings) if job.is_long else [range(len(strings))]:
            self._workers.scheduler.read(Slice(flow, job, indices, [strings[index] for index in indices]))
        return None

    def _slices(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Indices of texts of like length, about a batch in each."""
        part: list[int] = []
        tokens = characters = 0
        for index in sorted(range(len(texts)), key=lambda index: -len(texts[index])):
            part.append(index)
            tokens += self.room.estimate([texts[index]])
            characters += len(texts[index])
            if tokens >= self.capacity.batch_tokens or characters >= SLICED_CHARACTERS:
                yield part
                part, tokens, characters = [], 0, 0
        if part:
            yield part

    def _count(self, rows: Sequence[TokenIds]) -> int:
        """Tokens of rows of ids, which are the caller's: one that is none of the model's would end a GPU's context."""
        longest, vocabulary = self.manifest.training.max_length, self.engine.num_token_ids
        for index, ids in enumerate(rows):
            if not 0 < len(ids) <= longest:
                raise DataError(f"input_ids[{index}]: it has {len(ids)} tokens; send 1 to {longest}")
            if min(ids) < 0 or max(ids) >= vocabulary:
                raise DataError(f"input_ids[{index}]: a token id is not in 0 to {vocabulary - 1}; see the tokenizer")
        return sum(map(len, rows))

    def _expire(self, job: Job) -> None:
        if not job.future.done():
            self._refused("deadline")
            job.future.set_exception(
                DeadlineExceeded(f"{self.name}: no answer within the request's deadline; allow more time")
            )

    def _refused(self, reason: str) -> None:
        self._observer.on_refused(self.name, self.manifest.name, self.variant, reason)

    def _calibrate(self) -> Capacity:
        engine, longest = self.engine, self.manifest.training.max_length
        calibration = Calibration(engine.runner, longest, engine.num_token_ids, self.config, self._call)
        return calibration.run(physical_cores())

    def _reuse(self, capacity: Capacity) -> Capacity:
        """Take what a version of the same kind was measured at; the first calls, which are slow, are made here."""
        engine = self.engine
        for length in (1, capacity.stated_length, capacity.longest):
            self._call(partial(seconds_of, engine.runner, [[0] * length], capacity.threads, capacity.calls))
        return capacity

    def _call(self, function: Callable[[], float]) -> float:
        return self._workers.scheduler.call(function).result()


def _take_away(workers: Workers, own: Workers | None, *flows: Flow) -> None:
    workers.scheduler.remove(*flows)
    if own is not None:
        own.stop()
