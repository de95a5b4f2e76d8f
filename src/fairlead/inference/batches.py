"""How one model computes its batches: together, and one by one when that fails."""

import logging
import threading
import time
from collections.abc import Sequence

from fairlead.errors import FairleadError, InferenceError
from fairlead.inference.answers import Answer, Embedded
from fairlead.inference.capacity import Capacity
from fairlead.inference.engine import Engine
from fairlead.inference.jobs import Item, Job, TokenIds, hand_back
from fairlead.inference.observing import Batch, Observer
from fairlead.inference.room import Room

logger = logging.getLogger("fairlead.inference")

# So many batches in a row of which nothing could be computed mean that the model is broken and not the texts.
BROKEN_AFTER = 3


class Batches:
    """Reads and computes for one version. `read` is called in one thread, `compute` in others, several at a time."""

    def __init__(self, name: str, engine: Engine, room: Room, observer: Observer, capacity: Capacity) -> None:
        self.failure = ""
        """Why everything fails of late; empty while the model works."""
        self._name, self._engine, self._room, self._observer = name, engine, room, observer
        self._capacity = capacity
        self._failed_batches = 0
        self._tokenize_seconds = 0.0
        # When the last batch of each thread ended, by the thread's number.
        self._ended: dict[int, float] = {}
        # Texts of one request may be computed at the same time.
        self._counting = threading.Lock()

    def read(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of texts."""
        started = time.perf_counter()
        rows = self._engine.tokenize(texts)
        self._tokenize_seconds += time.perf_counter() - started
        if rows:
            self._room.saw_texts(sum(map(len, texts)), [len(row) for row in rows])
        return rows

    def compute(self, items: list[Item]) -> None:
        """Answer the texts and hand back the jobs that are done with them."""
        started = time.perf_counter()
        # Torch has one number for all models that a thread computes.
        self._engine.runner.set_threads(self._capacity.threads, self._capacity.calls)
        answers = self._answer(items)
        with self._counting:
            _mark(items, started)
            done = _settle(items, answers)
            try:
                # First, so that who has an answer finds it counted.
                self._report(items, sum(isinstance(answer, Exception) for answer in answers), started)
            # Who counts may fail; what was computed is handed back all the same.
            except Exception:
                logger.exception("a batch of %s was not counted", self._engine.manifest.name)
        hand_back(done)

    def _answer(self, items: Sequence[Item]) -> "list[Answer | Embedded | InferenceError]":
        try:
            answers = self._answers(items)
        # Whatever it is, it must end neither the thread nor the requests that it is not about.
        except Exception as error:
            if len(items) > 1:
                return [self._answer([item])[0] for item in items]
            return [self._failure_of(items[0], error)]
        self._failed_batches, self.failure = 0, ""
        return list(answers)

    def _answers(self, items: Sequence[Item]) -> "list[Answer | Embedded]":
        ids = [item.ids for item in items]
        if not any(item.job.embeds for item in items):
            return [*self._engine.answer_batch(ids)]
        rows = zip(items, self._engine.embed_batch(ids), strict=True)
        return [one if item.job.embeds else one.answer for item, one in rows]

    def _failure_of(self, item: Item, error: Exception) -> InferenceError:
        reason = f"{type(error).__name__}: {error}"[:200]
        logger.error("%s failed on a text of %d tokens: %s", self._engine.manifest.name, item.length, reason)
        self._failed_batches += 1
        if self._failed_batches >= BROKEN_AFTER:
            self.failure = f"{self._name}: the model fails on everything ({reason}); load it again, or another version"
        where = str(error) if isinstance(error, FairleadError) else f"text {item.index}: the model failed on it"
        return InferenceError(f"{where}; the reason is in the server's log")

    def _report(self, items: Sequence[Item], failed: int, started: float) -> None:
        now = time.perf_counter()
        tokens = sum(item.length for item in items)
        thread = threading.get_ident()
        ended, self._ended[thread] = self._ended.get(thread, 0.0), now
        # As if all calls ran, each as fast as this one.
        tokens_of_all = tokens * self._capacity.calls
        # Of batches that others waited behind: the time to the next, with what happens between them.
        if started - ended < 1e-3:
            self._room.saw_batch(tokens_of_all, now - ended)
        else:
            self._room.saw_lone_batch(tokens_of_all, now - started)
        self._room.saw_pace(len(items), max(item.length for item in items), now - started)
        tokenize_seconds, self._tokenize_seconds = self._tokenize_seconds, 0.0
        self._observer.on_batch(
            Batch(
                model=self._name,
                version=self._engine.manifest.name,
                variant=self._engine.variant,
                texts=len(items),
                tokens=tokens,
                padded_tokens=len(items) * max(item.length for item in items),
                tokenize_seconds=tokenize_seconds,
                queue_seconds=started - min(item.job.arrived for item in items),
                compute_seconds=now - started,
                failed=failed,
            )
        )


def _settle(items: Sequence[Item], answers: "Sequence[Answer | Embedded | InferenceError]") -> list[Job]:
    """Write answers into their jobs; the jobs that are done with them."""
    done: dict[Job, None] = {}
    for item, answer in zip(items, answers, strict=True):
        job = item.job
        job.remaining -= 1
        if isinstance(answer, Exception):
            job.error = job.error or answer
        else:
            job.results[item.index] = answer
        if not job.remaining or job.error:
            done[job] = None
    return list(done)


def _mark(items: Sequence[Item], started: float) -> None:
    ended = time.perf_counter()
    for item in items:
        if marks := item.job.marks:
            marks.computing, marks.computed = marks.computing or started, ended
