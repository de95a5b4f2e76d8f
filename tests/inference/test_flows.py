"""Which texts make a batch."""

import asyncio
from collections.abc import Iterator

import pytest

from fairlead.inference.calibration import enough_tokens, fit
from fairlead.inference.capacity import Capacity, Measurement
from fairlead.inference.flows import Flow
from fairlead.inference.jobs import Item, Job


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def flow_of(lengths: list[int], loop: asyncio.AbstractEventLoop, overhead_tokens: float, batch_tokens: int) -> Flow:
    capacity = Capacity("cpu", 1, batch_tokens, 0.0, 512, call_seconds=overhead_tokens * 1e-4, token_seconds=1e-4)
    flow = Flow(1.0, capacity, lambda texts: [], lambda items: None)
    for index, length in enumerate(lengths):
        job = Job(loop, loop.create_future(), [None], 1, length, False, lambda job: None)
        flow.put([Item(job, index, [0] * length, length)])
    return flow


def batches(flow: Flow) -> list[list[int]]:
    found = []
    while flow:
        found.append([item.length for item in flow.take(0.0)])
    return found


def test_texts_of_like_length_are_batched_and_the_oldest_is_always_among_them(loop: asyncio.AbstractEventLoop) -> None:
    flow = flow_of([40, 200, 41, 8, 210, 39, 9], loop, overhead_tokens=15, batch_tokens=512)
    assert batches(flow) == [[40, 41, 39], [200, 210], [8, 9]]


def test_where_a_call_is_dear_padding_is_taken(loop: asyncio.AbstractEventLoop) -> None:
    flow = flow_of([40, 200, 41, 8, 210, 39, 9], loop, overhead_tokens=5000, batch_tokens=10_000)
    assert len(batches(flow)) == 1


def test_no_batch_is_over_the_budget_but_a_single_text(loop: asyncio.AbstractEventLoop) -> None:
    lengths = [300, 16, 16, 16, 16, 16, 300, 64, 64, 64, 1]
    found = batches(flow_of(lengths, loop, overhead_tokens=20, batch_tokens=128))
    assert sorted(length for batch in found for length in batch) == sorted(lengths)
    assert all(len(batch) == 1 or len(batch) * max(batch) <= 128 for batch in found)


def test_texts_that_nobody_waits_for_are_left_out(loop: asyncio.AbstractEventLoop) -> None:
    flow = flow_of([10, 10, 10], loop, overhead_tokens=20, batch_tokens=128)
    flow._items[0].job.ended = True
    flow._items[1].job.deadline = 5.0
    assert [item.index for item in flow.take(6.0)] == [2]
    assert not flow


def test_the_model_of_time_is_found_again() -> None:
    true = Capacity("cpu", 1, 64, 0.0, 512, call_seconds=2e-3, token_seconds=5e-5, square_seconds=1e-8)
    points = [(1, 16), (4, 16), (1, 64), (8, 64), (1, 512), (4, 512)]
    table = [Measurement(n, length, 1, true.batch_seconds(n, length)) for n, length in points]
    assert fit(table) == pytest.approx((2e-3, 5e-5, 1e-8), rel=1e-6)


def test_a_table_that_no_model_explains_still_gives_a_rate() -> None:
    assert fit([Measurement(1, 10, 1, 1.0)]) == (0.0, pytest.approx(0.1), 0.0)
    assert fit([Measurement(1, 10, 1, 1.0), Measurement(1, 20, 1, 0.5)])[1] > 0


def test_the_budget_is_the_smallest_batch_that_is_about_as_fast_as_any() -> None:
    points = [(n, 64) for n in (1, 2, 4, 8, 16, 32)]
    # 640 tokens a millisecond once a call's overhead of a tenth of a millisecond is shared.
    table = [Measurement(n, length, 1, 1e-4 + n * length / 640e3) for n, length in points]
    assert enough_tokens(table, 1e-4, 1 / 640e3, "cpu") == 16 * 64
    # Of the same machine only the smallest batches were measured: the fit says where it would have been found.
    assert 800 < enough_tokens(table[:2], 1e-4, 1 / 640e3, "cpu") < 900
    assert enough_tokens(table[:2], 1.0, 1 / 640e3, "cpu") == 4096, "and never more than was tried on any machine"
