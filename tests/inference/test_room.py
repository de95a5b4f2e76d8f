"""Who is let in: estimates, bounds, and what 64 callers who wait for their answers see, in simulated time."""

import asyncio
import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from fairlead.errors import DeadlineExceeded, Overloaded
from fairlead.inference.capacity import Capacity
from fairlead.inference.config import ServingConfig
from fairlead.inference.flows import Flow
from fairlead.inference.jobs import Item, Job
from fairlead.inference.patience import ANSWERS
from fairlead.inference.room import Room

# What a small encoder was measured at on one processor, in float32 and in bfloat16.
SLOW = Capacity("cpu", 1, 512, 0.0, 256, call_seconds=5e-3, token_seconds=2.2e-4, square_seconds=5e-8)
FAST = Capacity("cpu", 1, 512, 0.0, 256, call_seconds=1e-3, token_seconds=5.0e-5, square_seconds=2e-8)
TWO_AT_A_TIME = replace(FAST, calls=2)
# From the client to the queue and back.
DOOR_SECONDS = 0.0015
SECONDS = 20
# What is learnt until then does not count.
WARMING_SECONDS = 20


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def text_lengths() -> Iterator[int]:
    """Log-normal, 43 tokens on average."""
    drawn = np.random.default_rng(0).lognormal(math.log(45) - 0.32, 0.8, 5000)
    return itertools.cycle(np.clip(drawn, 4, 250).astype(int).tolist())


def simulate(capacity: Capacity, clients: int, pace: float, loop: asyncio.AbstractEventLoop) -> tuple[list[float], int]:
    """Seconds of each answer that closed-loop clients get, and how many requests were refused.

    Every batch takes `pace` times as long as when the capacity was measured.
    """
    room, lengths, order = Room("m", capacity, ServingConfig()), text_lengths(), itertools.count()
    flow = Flow(1.0, capacity, lambda texts: [], lambda items: None, lambda: room.batch_tokens)
    # Times, ties by order, then the client that asks or the batch that ends, with the time that it began.
    events: list[tuple[float, int, int | tuple[list[Item], float]]] = [
        (i * 1e-3, next(order), i) for i in range(clients)
    ]
    asked: dict[Job, tuple[float, int]] = {}
    answered, refused, idle = [], 0, capacity.calls
    while events and events[0][0] < WARMING_SECONDS + SECONDS:
        now, _, what = heapq.heappop(events)
        if isinstance(what, int):
            length = next(lengths)
            try:
                room.take(length, 1.0, None)
            except Overloaded as error:
                refused += now > WARMING_SECONDS
                heapq.heappush(events, (now + math.ceil(error.retry_after_seconds), next(order), what))
                continue
            job = Job(loop, loop.create_future(), [None], 1, length, False, room.give)
            asked[job] = (now, what)
            flow.put([Item(job, 0, [], length)])
            room.saw_texts(0, [length])
        else:
            idle += 1
            items, began = what
            room.saw_batch(capacity.calls * sum(item.length for item in items), now - began)
            room.saw_pace(len(items), max(item.length for item in items), now - began)
            for item in items:
                started, client = asked.pop(item.job)
                if now > WARMING_SECONDS:
                    answered.append(now + DOOR_SECONDS - started)
                item.job.end()
                room.saw_answer(1, item.length, now - started)
                heapq.heappush(events, (now + DOOR_SECONDS, next(order), client))
        while idle and flow:
            batch = flow.take(now, idle)
            idle -= 1
            ends = now + pace * capacity.batch_seconds(len(batch), max(item.length for item in batch))
            heapq.heappush(events, (ends, next(order), (batch, now)))
    return answered, refused


@pytest.mark.parametrize(("capacity", "pace"), [(SLOW, 1.0), (SLOW, 2.0), (FAST, 1.0), (TWO_AT_A_TIME, 2.0)])
def test_64_callers_who_are_let_in_wait_under_three_times_as_long_as_one(
    capacity: Capacity, pace: float, loop: asyncio.AbstractEventLoop
) -> None:
    alone, none = simulate(capacity, 1, pace, loop)
    together, refused = simulate(capacity, 64, pace, loop)
    assert none == 0 and refused > 0
    # Nor is anybody sent away whom the promise would have let wait.
    assert 2 < np.percentile(together, 99) / np.percentile(alone, 99) < 3
    # One by one without a pause is what the model can do at least.
    lengths = list(itertools.islice(text_lengths(), 5000))
    one_by_one = capacity.calls * len(lengths) / sum(pace * capacity.batch_seconds(1, length) for length in lengths)
    assert len(together) / SECONDS > one_by_one


def test_callers_who_may_wait_are_not_refused() -> None:
    room = Room("m", SLOW, ServingConfig(queue_milliseconds=5000))
    for _ in range(64):
        room.take(45, 1.0, None)
    assert room.batch_tokens == SLOW.batch_tokens, "and batches are as large as they are best"


def test_the_seconds_until_there_is_room_follow_from_the_rate_and_the_share_of_the_machine() -> None:
    room = Room("m", SLOW, ServingConfig(queue_milliseconds=100))
    while room.tokens <= room.bound * 0.5:
        room.take(200, 0.5, None)
    with pytest.raises(Overloaded) as refused:
        room.take(200, 0.5, None)
    assert refused.value.retry_after_seconds == pytest.approx(room.tokens / (SLOW.tokens_per_second * 0.5))
    with pytest.raises(DeadlineExceeded):
        Room("m", SLOW, ServingConfig()).take(5000, 1.0, 0.01)


def test_one_request_is_let_in_however_large_it_is_and_the_next_of_its_kind_waits_for_seconds_at_most() -> None:
    room = Room("m", SLOW, ServingConfig(long_queue_seconds=2))
    assert room.take(1024 * 250, 1.0, None) is True
    with pytest.raises(Overloaded):
        room.take(1024 * 250, 1.0, None)
    assert room.take(45, 1.0, None) is False, "others have a queue of their own"


def test_tokens_are_estimated_from_the_texts_that_were_seen() -> None:
    room = Room("m", SLOW, ServingConfig())
    text = "x" * 100
    assert room.estimate([text]) == 42
    for _ in range(200):
        room.saw_texts(100, [20])
    assert room.estimate([text]) == pytest.approx(22, abs=1)
    assert room.estimate(["x" * 100_000]) == SLOW.longest, "what is cut is not counted"


def test_the_rate_follows_what_is_seen() -> None:
    room = Room("m", SLOW, ServingConfig())
    before = room.bound
    for _ in range(200):
        room.saw_batch(100, 100 / (SLOW.tokens_per_second / 4))
    assert room.tokens_per_second == pytest.approx(SLOW.tokens_per_second / 4, rel=0.01)
    assert room.bound == pytest.approx(before / 4, rel=0.02)


def test_a_rate_that_was_measured_too_low_is_corrected_though_nobody_waits() -> None:
    room = Room("m", SLOW, ServingConfig())
    rate = room.tokens_per_second
    room.saw_lone_batch(45, 10.0)
    assert room.tokens_per_second == rate, "a small batch says nothing of what full ones do"
    for _ in range(200):
        room.saw_lone_batch(45, 45 / (4 * rate))
    assert room.tokens_per_second == pytest.approx(4 * rate, rel=0.01)


def test_the_wait_follows_the_pace_of_the_machine() -> None:
    room = Room("m", SLOW, ServingConfig())
    before = room.wait_seconds
    for _ in range(200):
        room.saw_pace(4, 45, 3 * SLOW.batch_seconds(4, 45))
    assert room.wait_seconds == pytest.approx(3 * before, rel=0.01)


def test_times_say_nothing_of_the_bound_while_nobody_is_refused() -> None:
    room = Room("m", SLOW, ServingConfig())
    before = room.wait_seconds
    for _ in range(10 * ANSWERS):
        room.saw_answer(1, 250, 10 * before)
    assert room.wait_seconds == before
    while room.tokens <= room.bound:
        room.take(200, 1.0, None)
    with pytest.raises(Overloaded):
        room.take(45, 1.0, None)
    for _ in range(ANSWERS):
        room.saw_answer(1, 250, 10 * before)
    assert room.wait_seconds < before
