"""A language model that answers several callers, a piece of each in turn."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import ConfigError, DeadlineExceeded, Overloaded
from fairlead.inference.config import GenerationConfig, ServingConfig
from fairlead.inference.repository import Repository
from fairlead.inference.writing import ServedWriter
from tests.inference.serving import Seen, until
from tests.inference.writing import make_language_version, make_writer

GREEDY = GenerationConfig(temperature=0, max_new_tokens=40)
ENDLESS = GenerationConfig(temperature=1, max_new_tokens=100_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_language_version(tmp_path_factory.mktemp("language"))


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


def test_callers_at_once_get_what_each_would_get_alone(folder: Path) -> None:
    async def ask() -> None:
        repository = Repository(config=ServingConfig())
        served = await repository.load("nonsense", folder)
        assert isinstance(served, ServedWriter)
        prompts = ["one", "another prompt", "third"]
        expected = [make_writer(folder).write([prompt], GREEDY)[0] for prompt in prompts]
        written = await asyncio.gather(*(served.write([prompt], GREEDY) for prompt in prompts))
        assert [one for (one,) in written] == expected == await served.write(prompts, GREEDY)
        assert expected[0].num_tokens > 0 and expected[0].num_prompt_tokens == 3
        assert [status.state for status in repository.statuses()] == ["ready"]
        await repository.unload("nonsense")
        repository.close()

    run(ask)


def test_texts_are_written_in_turns_and_a_caller_who_leaves_ends_his(folder: Path) -> None:
    async def ask() -> None:
        seen = Seen()
        served = ServedWriter("nonsense", make_writer(folder), ServingConfig(generations=2), observer=seen)
        endless = served.generate(["on and on"], ENDLESS)
        pieces: list[str] = []

        async def read() -> None:
            async for shown in endless:
                pieces.extend(piece for _, piece in shown)

        reading = asyncio.create_task(read())
        await until(lambda: len(pieces) > 3)
        before = len(pieces)
        await served.write(["short"], GREEDY)
        assert len(pieces) > before and not reading.done(), "neither waits for the end of the other"

        other = served.generate(["held"], GREEDY)
        with pytest.raises(Overloaded, match="2 texts are being written"):
            served.generate(["one too many"], GREEDY)
        with pytest.raises(Overloaded):
            served.generate(["one", "too", "many"], GREEDY)
        await other.aclose()
        reading.cancel()
        await asyncio.wait([reading])
        await served.drain()
        count = len(pieces)
        assert len(await served.write(["more", "than", "places"], GREEDY)) == 3, "nobody else is kept out"
        assert len(pieces) == count and seen.refusals == ["overloaded"] * 2
        served.close()

    run(ask)


def test_mistakes_deadlines_and_the_end_are_told_and_free_the_place(folder: Path) -> None:
    async def ask() -> None:
        served = ServedWriter("nonsense", make_writer(folder), ServingConfig(generations=1))
        with pytest.raises(ConfigError, match="prompt: it is empty"):
            await served.write([""], GREEDY)
        with pytest.raises(DeadlineExceeded, match="ask for fewer tokens"):
            await served.write(["too long"], ENDLESS, deadline_seconds=0.2)
        served.generate(["nobody reads it"], GREEDY)
        assert (await served.write(["fine"], GREEDY))[0].num_tokens > 0
        generation = served.generate(["on and on"], ENDLESS)
        await anext(generation)
        served.close()
        with pytest.raises(Overloaded, match="served no more"):
            await anext(generation)
        with pytest.raises(Overloaded, match="served no more"):
            served.generate(["late"], GREEDY)

    run(ask)
