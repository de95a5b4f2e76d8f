"""The threads that compute: together they run the runners of all models of the process and give each its turns.

They tokenize, too: what comes while batches are computed is needed when the next one is put together, and not before.

Flows that have work share the machine by compute time and weight (fair queueing by virtual time), not by requests or
tokens: a token of a large model costs more than one of a small.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from fairlead.errors import InferenceError
from fairlead.inference.flows import Flow
from fairlead.inference.jobs import Item
from fairlead.inference.tokenizing import Inbox, Slice, tokenized
from fairlead.machine import give_way

logger = logging.getLogger("fairlead.inference")

# The event loop has the core when it has something to do, however long a batch still takes: with 64 callers the slowest
# of a hundred refusals took 9.9 ms without this, 7.3 with it, and 6.1 with 10.
NICE = 5

Result = TypeVar("Result")
Turn = Callable[[], None]


class Scheduler:
    """Runs as many batches at a time as there are cores for, and between them what needs the machine to itself."""

    def __init__(self, cores: int = 1) -> None:
        self._changed = threading.Condition()
        self._cores = self._free = cores
        self._flows: list[Flow] = []
        self._inbox, self._reading, self._long_is_due = Inbox(), False, True
        self._calls: deque[Turn] = deque()
        self._virtual_seconds = 0.0
        self._call_is_due = True
        self._stopping = False
        self._threads = 0
        for _ in range(cores):
            self._start_thread()

    def _start_thread(self) -> None:
        threading.Thread(target=self._run, daemon=True, name=f"inference-{self._threads}").start()
        self._threads += 1

    def add(self, *flows: Flow) -> None:
        """Let the flows have turns."""
        with self._changed:
            self._flows += flows
        # While another device computes, a thread waits for it, and texts are tokenized by a second.
        if self._threads == 1 and any(flow.capacity.device != "cpu" for flow in flows):
            self._start_thread()

    def remove(self, *flows: Flow) -> list[Item]:
        """Take the flows away; what waited in them."""
        with self._changed:
            self._flows = [flow for flow in self._flows if flow not in flows]
            return [item for flow in flows for item in flow.clear()]

    def read(self, part: Slice) -> None:
        """Tokenize texts, and let them wait in their flow."""
        with self._changed:
            self._inbox.put(part)
            self._changed.notify()

    def put(self, flow: Flow, items: Sequence[Item]) -> None:
        """Let texts that are tokenized wait in a flow."""
        with self._changed:
            self._put(flow, items)
            self._changed.notify()

    def _put(self, flow: Flow, items: Sequence[Item]) -> None:
        if not flow:
            # Who had nothing to do may not catch up on it later.
            flow.used_seconds = max(flow.used_seconds, self._virtual_seconds)
            if self._free == self._cores and not any(self._flows):
                # Let the first batch fill where an idle device is worth less than a fuller batch.
                flow.fills_until = time.perf_counter() + flow.capacity.wait_seconds
        flow.put(items)

    def share(self, *flows: Flow) -> float:
        """Share of the machine that these flows get together while they and the others of now have work, 0 to 1."""
        own = max((flow.weight for flow in flows), default=0.0)
        busy = sum(flow.weight for flow in self._flows if flow and flow not in flows)
        return own / (own + busy)

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run something while no batch runs; batches and calls take turns."""
        future: Future[Result] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)

        with self._changed:
            if self._stopping:
                future.cancel()
            else:
                self._calls.append(run)
                self._changed.notify()
        return future

    def stop(self) -> None:
        """End after the batches that run; what waits stays undone."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _run(self) -> None:
        give_way(NICE)
        while (turn := self._next()) is not None:
            turn()
            # Or the last batch, and with it its model, would live until the next one comes.
            del turn

    def _next(self) -> Turn | None:
        """What to do next, when there is something; None at the end."""
        with self._changed:
            while not self._stopping:
                turn, pause = self._start_reading(self._long_is_due or not any(self._flows)), None
                if turn is None:
                    turn, pause = self._start_computing()
                # Who could not compute now reads on meanwhile.
                if turn is None and (turn := self._start_reading(with_long=True)) is None:
                    self._changed.wait(pause)
                    continue
                if (self._free and any(self._flows)) or (self._inbox and not self._reading):
                    self._changed.notify()
                return turn
        return None

    def _start_reading(self, with_long: bool) -> Turn | None:
        """Tokenize what has come, in one thread at a time; `with_long`, a slice of a long request, too."""
        parts = [] if self._reading else self._inbox.take(with_long)
        if not parts:
            return None
        self._reading = True
        # The next slice comes after a batch of what waits.
        self._long_is_due &= not any(part.job.is_long for part in parts)
        return partial(self._read, parts)

    def _start_computing(self) -> tuple[Turn | None, float | None]:
        """A call or a batch, or after how many seconds there may be one; None of both until something happens."""
        if self._calls and (self._call_is_due or not any(self._flows)):
            # None starts meanwhile, and who ends last looks here next.
            return (self._start_call() if self._free == self._cores else None), None
        return self._start_batch()

    def _start_call(self) -> Turn:
        self._call_is_due = False
        self._free = 0
        return partial(self._alone, self._calls.popleft())

    def _start_batch(self) -> tuple[Turn | None, float | None]:
        """The next batch; or none, and after how many seconds there may be one though nothing else happens."""
        now = time.perf_counter()
        while (flow := min(self._ready(), key=lambda flow: flow.used_seconds, default=None)) is not None:
            cores = self._cores_of(flow)
            # Whose turn it is waits for the cores that it needs: those who need fewer would always come before it.
            if cores > self._free:
                return None, None
            if flow.fills_until > now and not flow.has_batch(flow.capacity.batch_tokens):
                return None, flow.fills_until - now
            if batch := flow.take(now, self._startable(flow, cores)):
                self._free -= cores
                flow.running.batches += 1
                return partial(self._compute, flow, batch, cores), None
        return None, None

    def _ready(self) -> Iterator[Flow]:
        """Flows with work whose model may have one more batch computed."""
        return (flow for flow in self._flows if flow and flow.running.batches < flow.capacity.calls)

    def _cores_of(self, flow: Flow) -> int:
        """Another device serves one batch at a time, whosever it is."""
        return min(flow.capacity.threads, self._cores) if flow.capacity.device == "cpu" else self._cores

    def _startable(self, flow: Flow, cores: int) -> int:
        """Batches of the flow that could start at this moment."""
        return min(self._free // cores, flow.capacity.calls - flow.running.batches)

    def _read(self, parts: list[Slice]) -> None:
        try:
            for flow, items in tokenized(parts):
                with self._changed:
                    self._put(flow, items)
        finally:
            with self._changed:
                self._reading = False

    def _alone(self, call: Turn) -> None:
        call()
        with self._changed:
            self._free = self._cores

    def _compute(self, flow: Flow, batch: list[Item], cores: int) -> None:
        started = time.perf_counter()
        try:
            flow.compute(batch)
        # Whatever it is, this thread computes for all others, too.
        except Exception as error:
            logger.exception("a batch failed outside of its model")
            reason = f"{type(error).__name__}: {error}"[:200]
            for job in {item.job for item in batch}:
                job.fail(InferenceError(f"inference: a batch failed ({reason}); see the server's log and report it"))
        with self._changed:
            flow.used_seconds += cores * (time.perf_counter() - started) / flow.weight
            self._virtual_seconds = max(self._virtual_seconds, flow.used_seconds)
            flow.running.batches -= 1
            self._free += cores
            self._call_is_due = self._long_is_due = True
