"""Which batches are computed at the same time, and what has the machine to itself."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from fairlead.inference.capacity import Capacity
from fairlead.inference.flows import Flow, Running
from fairlead.inference.jobs import Item, Job
from fairlead.inference.scheduler import Scheduler
from fairlead.inference.tokenizing import Slice

ONE = Capacity("cpu", 1, 1, 0.0, 16, call_seconds=1e-3, token_seconds=1e-4)
TWO = replace(ONE, calls=2)
BOTH_CORES = replace(ONE, threads=2)
SECONDS = 60


class Held:
    """A flow of texts of one token, each a batch; every batch waits until it is let go."""

    def __init__(self, scheduler: Scheduler, capacity: Capacity, running: Running | None = None) -> None:
        self.scheduler, self.running = scheduler, 0
        self.most, self.done = 0, 0
        self._changed, self._go = threading.Condition(), threading.Semaphore(0)
        self.read: list[list[str]] = []
        self.flow = Flow(1.0, capacity, self._read, self._compute, None, running)
        scheduler.add(self.flow)
        self._loop = asyncio.new_event_loop()

    def put(self, count: int) -> None:
        for _ in range(count):
            self.scheduler.put(self.flow, [Item(self.job(), 0, [0], 1)])

    def ask(self, text: str, is_long: bool = False) -> None:
        self.scheduler.read(Slice(self.flow, self.job(is_long), [0], [text]))

    def job(self, is_long: bool = False) -> Job:
        return Job(self._loop, self._loop.create_future(), [None], 1, 1, is_long, lambda job: None)

    def let_go(self, count: int = 1) -> None:
        self._go.release(count)

    def until(self, running: int, done: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: (self.running, self.done) == (running, done), SECONDS)

    def until_read(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: bool(self.read), SECONDS)

    def close(self) -> None:
        self.let_go(1000)
        self._loop.close()

    def _read(self, texts: Sequence[str]) -> list[list[int]]:
        with self._changed:
            self.read.append(list(texts))
            self._changed.notify_all()
        return [[0]] * len(texts)

    def _compute(self, items: list[Item]) -> None:
        self._count(1, 0)
        assert self._go.acquire(timeout=SECONDS)
        self._count(-1, len(items))

    def _count(self, running: int, done: int) -> None:
        with self._changed:
            self.running, self.done = self.running + running, self.done + done
            self.most = max(self.most, self.running)
            self._changed.notify_all()


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(cores=2)
    yield scheduler
    scheduler.stop()


def test_as_many_batches_run_at_a_time_as_the_capacity_says(scheduler: Scheduler) -> None:
    for capacity, at_a_time in ((TWO, 2), (ONE, 1), (BOTH_CORES, 1)):
        held = Held(scheduler, capacity)
        held.put(5)
        assert held.until(at_a_time, 0)
        held.let_go(5)
        assert held.until(0, 5)
        assert held.most == at_a_time
        scheduler.remove(held.flow)
        held.close()


def test_flows_of_one_model_run_no_more_than_the_model_may(scheduler: Scheduler) -> None:
    running = Running()
    whole, sliced = Held(scheduler, ONE, running), Held(scheduler, ONE, running)
    whole.put(1)
    assert whole.until(1, 0)
    sliced.put(1)
    other = Held(scheduler, ONE)
    other.put(1)
    assert other.until(1, 0), "another model has the other core"
    assert sliced.running == 0
    whole.let_go()
    assert sliced.until(1, 0)
    for held in (whole, sliced, other):
        held.close()


def test_a_call_has_the_machine_to_itself_and_comes_before_the_next_batches(scheduler: Scheduler) -> None:
    held = Held(scheduler, TWO)
    held.put(4)
    assert held.until(2, 0)
    called = scheduler.call(lambda: (held.running, held.done))
    held.let_go(1)
    assert held.until(1, 1), "no batch takes the place of the one that ended"
    assert not called.done()
    held.let_go(1)
    assert called.result(SECONDS) == (0, 2)
    assert held.until(2, 2)
    held.close()


def test_who_needs_both_cores_is_not_overtaken_by_those_who_need_one(scheduler: Scheduler) -> None:
    small, large = Held(scheduler, TWO), Held(scheduler, BOTH_CORES)
    small.put(2)
    assert small.until(2, 0)
    large.put(1)
    small.put(2)
    # The first turn is charged; whoever had none is next.
    small.let_go(1)
    assert small.until(1, 1)
    small.let_go(1)
    assert large.until(1, 0)
    assert small.done == 2 and small.running == 0
    small.let_go(2)
    large.let_go(1)
    assert small.until(0, 4)
    small.close()
    large.close()


def test_what_waits_is_shared_by_those_who_could_start(scheduler: Scheduler) -> None:
    wide = replace(TWO, batch_tokens=100)
    flow = Flow(1.0, wide, lambda texts: [], lambda items: None)
    loop = asyncio.new_event_loop()
    for _ in range(8):
        flow.put([Item(Job(loop, loop.create_future(), [None], 1, 1, False, lambda job: None), 0, [0], 1)])
    assert [len(flow.take(0.0, startable)) for startable in (2, 1)] == [4, 4]
    loop.close()


@contextmanager
def computing(capacity: Capacity) -> Iterator[Held]:
    """The only core of a scheduler has a batch."""
    scheduler = Scheduler(cores=1)
    held = Held(scheduler, capacity)
    held.put(1)
    assert held.until(1, 0)
    yield held
    scheduler.stop()
    held.close()


def test_what_comes_while_a_batch_runs_is_tokenized_in_one_call_before_the_next() -> None:
    with computing(ONE) as held:
        for text in ("one", "two", "three"):
            held.ask(text)
        assert held.read == []
        held.let_go(4)
        assert held.until(0, 4)
        assert held.read == [["one", "two", "three"]]


def test_long_requests_are_tokenized_a_slice_at_a_time_between_batches_of_others() -> None:
    with computing(ONE) as held:
        for text in ("long", "longer"):
            held.ask(text, is_long=True)
        held.ask("short")
        held.let_go(1)
        assert held.until(1, 1)
        assert held.read == [["short", "long"]], "the next slice comes after a batch"
        held.let_go(3)
        assert held.until(0, 4)
        assert held.read == [["short", "long"], ["longer"]]


def test_texts_are_tokenized_while_another_device_computes_though_there_is_one_core() -> None:
    with computing(replace(ONE, device="cuda")) as held:
        held.ask("text")
        assert held.until_read()
        assert (held.running, held.done) == (1, 0)
        held.let_go(2)
        assert held.until(0, 2)
