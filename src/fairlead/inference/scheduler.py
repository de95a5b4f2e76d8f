"""The one thread that computes: it owns the runners of all models of the process and gives each its turns.

Flows that have work share the machine by compute time and weight (fair queueing by virtual time), not by requests or
tokens: a token of a large model costs more than one of a small.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from fairlead.errors import InferenceError
from fairlead.inference.flows import Flow
from fairlead.inference.jobs import Item

logger = logging.getLogger("fairlead.inference")

Result = TypeVar("Result")


class Scheduler:
    """Runs batches, and other work that needs the machine to itself, one at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._flows: list[Flow] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._virtual_seconds = 0.0
        self._call_is_due = True
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="inference")
        self._thread.start()

    def add(self, *flows: Flow) -> None:
        """Let the flows have turns."""
        with self._changed:
            self._flows += flows

    def remove(self, *flows: Flow) -> list[Item]:
        """Take the flows away; what waited in them."""
        with self._changed:
            self._flows = [flow for flow in self._flows if flow not in flows]
            return [item for flow in flows for item in flow.clear()]

    def put(self, flow: Flow, items: Sequence[Item]) -> None:
        """Let texts wait in a flow."""
        with self._changed:
            if not flow:
                # Who had nothing to do may not catch up on it later.
                flow.used_seconds = max(flow.used_seconds, self._virtual_seconds)
            flow.put(items)
            self._changed.notify()

    def share(self, *flows: Flow) -> float:
        """Share of the machine that these flows get together while they and the others of now have work, 0 to 1."""
        own = max((flow.weight for flow in flows), default=0.0)
        busy = sum(flow.weight for flow in self._flows if flow and flow not in flows)
        return own / (own + busy)

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run something between two batches; batches and calls take turns."""
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
        """End after the batch that runs; what waits stays undone."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            turn()
            # Or the last batch, and with it its model, would live until the next one comes.
            del turn

    def _next(self) -> Callable[[], None] | None:
        """What to do next, when there is something; None at the end."""
        with self._changed:
            while not self._stopping:
                if self._calls and (self._call_is_due or not any(self._flows)):
                    self._call_is_due = False
                    return self._calls.popleft()
                self._call_is_due = True
                flow = min(filter(len, self._flows), key=lambda flow: flow.used_seconds, default=None)
                if flow is None:
                    self._changed.wait()
                    self._wait_for_more()
                elif batch := flow.take(time.perf_counter()):
                    return lambda: self._compute(flow, batch)
        return None

    def _wait_for_more(self) -> None:
        """After a pause, let the first batch fill where an idle device is worth less than a fuller batch."""
        flow = next(filter(len, self._flows), None)
        if flow is not None and flow.capacity.wait_seconds and not self._calls:
            until = time.perf_counter() + flow.capacity.wait_seconds
            while (left := until - time.perf_counter()) > 0 and not flow.has_batch(flow.capacity.batch_tokens):
                self._changed.wait(left)

    def _compute(self, flow: Flow, batch: list[Item]) -> None:
        started = time.perf_counter()
        try:
            flow.compute(batch)
        # Whatever it is, this thread computes for all others, too.
        except Exception as error:
            logger.exception("a batch failed outside of its model")
            reason = f"{type(error).__name__}: {error}"[:200]
            for job in {item.job for item in batch}:
                job.fail(InferenceError(f"inference: a batch failed ({reason}); see the server's log and report it"))
        flow.used_seconds += (time.perf_counter() - started) / flow.weight
        self._virtual_seconds = max(self._virtual_seconds, flow.used_seconds)
