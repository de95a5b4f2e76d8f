"""Requests that are batched with each other, refused, given up and failed one by one."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import DataError, DeadlineExceeded, InferenceError, Overloaded
from fairlead.inference.calibration import Clock
from fairlead.inference.config import ServingConfig
from fairlead.inference.engine import Engine
from fairlead.inference.observing import Batch
from fairlead.inference.served import Served
from fairlead.inference.workers import Workers
from tests.inference.serving import CAPACITY, Seen, held, until
from tests.tiny import MAX_LENGTH, WORDS, make_version

TEXTS = [" ".join(WORDS[i % 7 : i % 7 + 1 + i % 9]) for i in range(60)]
LONG = "card " * MAX_LENGTH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_version(tmp_path_factory.mktemp("served"))


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


def test_answers_of_concurrent_requests_are_those_of_the_engine_alone(folder: Path) -> None:
    async def ask() -> None:
        seen = Seen()
        served, runner = held(folder, ServingConfig(queue_milliseconds=10_000), observer=seen)
        expected = Engine.load(folder).predict(TEXTS)
        runner.free.clear()
        asked = [asyncio.create_task(served.predict([text])) for text in TEXTS]
        ids = served.engine.tokenize(TEXTS)
        asked += [asyncio.create_task(served.predict([ids[i]])) for i in range(10)]
        await until(lambda: bool(runner.batches))
        runner.free.set()
        answers = [answer for answers in await asyncio.gather(*asked) for answer in answers]
        for one, other in zip(answers, expected + expected[:10], strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert len(seen.batches) < len(asked) / 3, "requests that wait together are computed together"
        assert sum(batch.texts for batch in seen.batches) == len(asked)
        assert all(b.padded_tokens <= CAPACITY.batch_tokens for b in seen.batches)
        assert (served.room.tokens, served.room.long_tokens) == (0, 0)
        served.close()

    run(ask)


def test_a_full_queue_refuses_at_once_before_tokenizing_and_says_when_to_come_back(folder: Path) -> None:
    async def ask() -> None:
        seen = Seen()
        served, runner = held(folder, observer=seen)
        runner.free.clear()
        accepted = []
        while served.room.tokens <= served.room.bound:
            accepted.append(asyncio.create_task(served.predict([LONG])))
            await asyncio.sleep(0)
        served.engine.tokenize = lambda texts: pytest.fail("tokenized")  # type: ignore[method-assign]
        with pytest.raises(Overloaded, match=r"topics: \d+ tokens wait") as refused:
            await served.predict([LONG])
        del served.engine.tokenize
        seconds = served.room.tokens / CAPACITY.tokens_per_second
        assert refused.value.retry_after_seconds == pytest.approx(seconds)
        assert seen.refusals == ["overloaded"]
        runner.free.set()
        await asyncio.gather(*accepted)
        assert len(await served.predict([LONG])) == 1, "there is room again"
        served.close()

    run(ask)


def test_a_caller_that_leaves_gives_its_place_back_and_is_not_computed(folder: Path) -> None:
    async def ask() -> None:
        seen = Seen()
        served, runner = held(folder, observer=seen)
        runner.free.clear()
        first = asyncio.create_task(served.predict(["my card"]))
        await until(lambda: len(runner.batches) == 1)
        alone = served.room.tokens
        leaving = asyncio.create_task(served.predict(["where is the parcel"]))
        await until(lambda: served.room.tokens > alone)
        taken = served.room.tokens
        leaving.cancel()
        await asyncio.wait([leaving])
        assert served.room.tokens < taken and seen.refusals == ["cancelled"]
        runner.free.set()
        await first
        await served.predict(["refund"])
        assert [len(batch) for batch in runner.batches] == [1, 1], "nobody waits for it"
        served.close()

    run(ask)


def test_work_past_its_deadline_is_refused_or_given_up_but_never_computed(folder: Path) -> None:
    async def ask() -> None:
        served, runner = held(folder)
        runner.free.clear()
        first = asyncio.create_task(served.predict([LONG]))
        await until(lambda: len(runner.batches) == 1)
        with pytest.raises(DeadlineExceeded, match="its turn comes in"):
            await served.predict(["my card"], deadline_seconds=1e-4)
        with pytest.raises(DeadlineExceeded, match="no answer within"):
            await served.predict(["my card"], deadline_seconds=0.1)
        runner.free.set()
        await first
        assert len(await served.predict(["refund"], deadline_seconds=60)) == 1
        assert [len(batch) for batch in runner.batches] == [1, 1]
        served.close()

    run(ask)


def test_a_text_that_the_model_fails_on_fails_alone(folder: Path) -> None:
    async def ask() -> None:
        served, runner = held(folder, ServingConfig(queue_milliseconds=10_000))
        runner.poison = served.engine.tokenize(["crashes"])[0][1]
        runner.free.clear()
        texts = ["my card", "app crashes", "the parcel", "refund please"]
        asked = [asyncio.create_task(served.predict([text])) for text in texts]
        await until(lambda: bool(runner.batches))
        runner.free.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, InferenceError) for answer in answers] == [False, True, False, False]
        assert served.failure == ""
        served.close()

    run(ask)


def test_a_model_that_fails_on_everything_says_so_until_it_works_again(folder: Path) -> None:
    async def ask() -> None:
        served, runner = held(folder)
        runner.poison = served.engine.tokenize(["card"])[0][1]
        for _ in range(3):
            with pytest.raises(InferenceError):
                await served.predict(["card"])
        assert "fails on everything (ValueError: this text is poison)" in served.failure
        runner.poison = None
        await served.predict(["card"])
        assert served.failure == ""
        served.close()

    run(ask)


def test_a_request_of_many_texts_takes_turns_with_others(folder: Path) -> None:
    async def ask() -> None:
        served, runner = held(folder)
        runner.free.clear()
        many = asyncio.create_task(served.predict([LONG] * 200))
        await until(lambda: len(runner.batches) == 1)
        single = asyncio.create_task(served.predict(["my card"]))
        await until(lambda: served.room.tokens > 0)
        runner.free.set()
        await single
        assert len(await many) == 200
        (ids,) = served.engine.tokenize(["my card"])
        turn = next(index for index, batch in enumerate(runner.batches) if ids in batch)
        assert turn <= 4, "it came next, not after the two hundred"
        assert len(runner.batches) > 20
        assert sum(len(batch) for batch in runner.batches) == 201
        served.close()

    run(ask)


def test_texts_that_take_long_to_tokenize_take_turns_too(folder: Path) -> None:
    async def ask() -> None:
        served, _ = held(folder)
        huge = "my card " * 20_000
        many = asyncio.create_task(served.predict([huge] * 20))
        await until(lambda: served.room.long_tokens > 0)
        assert served.room.tokens == 0, "few tokens, since they are cut, but much to read"
        assert len(await served.predict(["my card"])) == 1
        assert not many.done()
        assert len(await many) == 20
        served.close()

    run(ask)


def test_a_defect_beside_the_model_fails_its_batch_and_not_the_server(folder: Path) -> None:
    class Broken(Seen):
        def on_batch(self, batch: Batch) -> None:
            super().on_batch(batch)
            if len(self.batches) == 1:
                raise RuntimeError("who counts may not")

    async def ask() -> None:
        served, runner = held(folder, observer=Broken())
        assert len(await served.predict(["my card"])) == 1, "it was answered already"
        runner.set_threads = lambda threads, calls: 1 / 0
        with pytest.raises(InferenceError, match="ZeroDivisionError"):
            await served.predict(["my card"])
        del runner.set_threads
        assert len(await served.predict(["my card"])) == 1
        assert (served.room.tokens, served.room.long_tokens) == (0, 0)
        served.close()

    run(ask)


@pytest.mark.parametrize(
    ("ids", "name"), [([[]], "0 tokens"), ([[1, -1]], "token id"), ([[1], [1, 999]], r"\[1\]"), ([[1] * 17], "17")]
)
def test_token_ids_that_the_model_has_not_are_refused(folder: Path, ids: list[list[int]], name: str) -> None:
    async def ask() -> None:
        served, _ = held(folder)
        with pytest.raises(DataError, match=name):
            await served.predict(ids)
        assert served.room.tokens == 0
        served.close()

    run(ask)


def test_models_that_share_the_machine_take_turns(folder: Path) -> None:
    async def ask() -> None:
        workers, config = Workers(cores=1), ServingConfig(queue_milliseconds=60_000)
        (one, runner), (other, other_runner) = (held(folder, config, workers) for _ in range(2))
        runner.free.clear()
        asked = [asyncio.create_task(one.predict([LONG])) for _ in range(80)]
        await until(lambda: bool(runner.batches))
        late = asyncio.create_task(other.predict(["my card"]))
        await until(lambda: other.room.tokens > 0)
        runner.free.set()
        await asyncio.gather(late, *asked)
        before = sum(started < other_runner.started[-1] for started in runner.started[1:])
        assert before <= 2, "the other model does not wait for all that came before"
        assert len(other_runner.batches) == 1
        workers.stop()

    run(ask)


def test_what_is_accepted_is_drained_and_what_waits_at_the_close_is_told(folder: Path) -> None:
    async def ask() -> None:
        served, runner = held(folder)
        runner.free.clear()
        asked = [asyncio.create_task(served.predict([text])) for text in TEXTS[:3]]
        await until(lambda: bool(runner.batches))
        draining = asyncio.create_task(served.drain())
        await asyncio.sleep(0.05)
        assert not draining.done()
        runner.free.set()
        await draining
        assert all(task.done() for task in asked)

        runner.free.clear()
        waiting = asyncio.create_task(served.predict(["my card"]))
        await until(lambda: len(runner.batches) > 1)
        served.close()
        with pytest.raises(Overloaded, match="served no more"):
            await waiting
        with pytest.raises(Overloaded, match="served no more"):
            await served.predict(["my card"])
        runner.free.set()

    run(ask)


def test_it_measures_itself_when_nothing_is_set(folder: Path) -> None:
    served = Served("topics", Engine.load(folder), ServingConfig(calibration_seconds=0.2))
    capacity = served.capacity
    assert capacity.texts_per_second > 0 and capacity.batch_tokens >= MAX_LENGTH
    assert {one.threads for one in capacity.measurements} >= {1}
    assert type(capacity).from_dict(capacity.to_dict()) == capacity
    assert f"{capacity.texts_per_second:.0f} texts/s" in capacity.describe()
    served.close()


def test_what_is_set_is_not_measured(folder: Path) -> None:
    config = ServingConfig(calibration_seconds=0, threads=1, batch_tokens=48, wait_milliseconds=2)
    served = Served("topics", Engine.load(folder), config)
    served.close()
    capacity = served.capacity
    assert (capacity.threads, capacity.batch_tokens, capacity.wait_seconds) == (1, 48, 0.002)
    assert len(capacity.measurements) == 2


def test_texts_of_one_request_that_are_computed_at_the_same_time_are_all_answered(folder: Path) -> None:
    async def ask() -> None:
        engine, capacity = Engine.load(folder), replace(CAPACITY, calls=2, batch_tokens=MAX_LENGTH)
        workers = Workers(cores=2)
        served = Served("topics", engine, ServingConfig(queue_milliseconds=60_000), workers, capacity)
        expected = engine.predict(TEXTS)
        for answers in await asyncio.gather(*(served.predict(TEXTS) for _ in range(20))):
            for one, other in zip(answers, expected, strict=True):
                assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert (served.room.tokens, served.room.long_tokens) == (0, 0)
        workers.stop()

    run(ask)


def test_it_measures_how_the_cores_are_shared(folder: Path) -> None:
    served = Served("topics", Engine.load(folder), ServingConfig(calibration_seconds=0.2, threads=2))
    capacity = served.capacity
    assert (capacity.calls, capacity.threads) in ((2, 1), (1, 2))
    assert {(one.calls, one.threads) for one in capacity.measurements} >= {(1, 1), (2, 1)}
    assert capacity.slowdown >= 1
    served.close()


def test_what_others_take_of_a_core_does_not_count_against_calls_of_one_thread() -> None:
    clock, of_another_device = Clock(), Clock("cuda")
    time.sleep(0.2)
    assert clock.seconds(threads=1, calls=2) < 0.1 < clock.seconds(threads=2, calls=1)
    assert of_another_device.seconds(threads=1, calls=1) > 0.1, "whose time is waited for"
