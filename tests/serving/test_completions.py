"""Language models: continuations over V1, V2 and gRPC, and OpenAI's completions, whole and as a stream."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from fairlead.inference.config import GenerationConfig, ServingConfig
from fairlead.inference.generation import Writer
from fairlead.inference.repository import Repository
from fairlead.names import CHAMPION, ModelRef
from fairlead.predictions.config import PredictionLogConfig, TextName
from fairlead.predictions.log import PredictionLog
from fairlead.registry import open_registry
from fairlead.reproduction.replay import replay
from fairlead.storage import open_store
from serving.asgi import WATCHING
from serving.control import Control
from serving.desk import Desk
from serving.journal import PredictionJournal
from serving.options import Wanted
from serving.rest import RestDoor
from serving.starting import load_models
from tests.inference.conftest import register_version
from tests.inference.serving import until
from tests.inference.writing import make_language_version
from tests.serving.doors import Doors, Ends, infer_request, rpc_opened, run
from tests.tiny import make_version

PROMPT = "ROMEO:"
SETTINGS = {"temperature": 0.8, "seed": 3}
PATHS = ("/v1/completions", "/openai/v1/completions")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_language_version(tmp_path_factory.mktemp("writing") / "version")


@pytest.fixture(scope="module")
def expected(folder: Path) -> Any:
    (found,) = Writer.load(folder).write([PROMPT], GenerationConfig(max_new_tokens=20, **SETTINGS))
    return found


@asynccontextmanager
async def opened(*sources: Path | str, config: ServingConfig | None = None) -> AsyncIterator[Doors]:
    ends, repository = Ends(), Repository(config=config)
    desk = Desk([ends])
    door = RestDoor(desk, Control(desk, repository, False, True))
    await load_models([Wanted(one, None, None) for one in sources], repository, desk)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://doors") as client:  # type: ignore[arg-type]
        yield Doors(desk, door, None, None, client, ends)  # type: ignore[arg-type]
    repository.close()


def test_completions_are_what_the_writer_writes(folder: Path, expected: Any) -> None:
    async def ask() -> None:
        async with opened(folder) as doors:
            body = {"model": "nonsense", "prompt": PROMPT, "max_tokens": 20, **SETTINGS}
            for path in PATHS:
                response = await doors.client.post(path, json=body)
                answer = response.json()
                (choice,) = answer["choices"]
                assert (choice["text"], choice["index"], choice["logprobs"]) == (expected.text, 0, None)
                assert choice["finish_reason"] == ("length" if expected.ended == "length" else "stop")
                assert answer["usage"]["completion_tokens"] == expected.num_tokens
                assert answer["usage"]["prompt_tokens"] == expected.num_prompt_tokens
                assert answer["object"] == "text_completion" and uuid.UUID(answer["id"])
                assert response.headers["x-fairlead-digest"] == answer["system_fingerprint"]
            both = (await doors.client.post(PATHS[0], json=body | {"prompt": [PROMPT, "JULIET:"]})).json()
            assert [choice["index"] for choice in both["choices"]] == [0, 1]
            assert [end.status for end in doors.ends.exchanges] == [200] * 3
            assert (await doors.client.get("/openai/v1/models")).json()["data"][0]["id"] == "nonsense"

    run(ask)


def test_a_stream_joins_to_the_same_and_says_when_it_is_done(folder: Path, expected: Any) -> None:
    async def ask() -> None:
        async with opened(folder) as doors:
            body = {"model": "nonsense", "prompt": PROMPT, "max_tokens": 20, "stream": True, **SETTINGS}
            response = await doors.client.post(PATHS[0], json=body | {"stream_options": {"include_usage": True}})
            assert response.headers["content-type"].startswith("text/event-stream")
            *events, done, rest = response.text.split("\n\n")
            assert (done, rest) == ("data: [DONE]", "")
            chunks = [json.loads(event.removeprefix("data: ")) for event in events]
            assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == expected.text
            assert chunks[-1]["usage"]["completion_tokens"] == expected.num_tokens and chunks[-1]["choices"] == []
            assert chunks[-2]["choices"][0]["finish_reason"] in ("stop", "length")
            assert len(chunks) > 4 and len({chunk["id"] for chunk in chunks}) == 1

    run(ask)


def test_kserves_protocols_continue_texts_too(folder: Path, expected: Any) -> None:
    async def ask() -> None:
        async with opened(folder) as doors, rpc_opened(doors) as infer:
            given = {"max_new_tokens": 20, **SETTINGS}
            body = {"instances": [PROMPT], "parameters": given}
            v1 = (await doors.client.post("/v1/models/nonsense:predict", json=body)).json()
            assert v1["predictions"] == [{"text": expected.text}] and v1["model_version"].startswith("nonsense_v")
            tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [PROMPT]}
            v2 = (
                await doors.client.post("/v2/models/nonsense/infer", json={"inputs": [tensor], "parameters": given})
            ).json()
            assert v2["outputs"] == [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [expected.text]}]
            request = infer_request(PROMPT)
            request.model_name = "nonsense"
            request.parameters["max_new_tokens"].int64_param = 5
            assert len((await infer(request)).outputs[0].contents.bytes_contents) == 1
            metadata = (await doors.client.get("/v2/models/nonsense")).json()
            assert metadata["platform"] == "fairlead_text_generation" and metadata["outputs"][0]["name"] == "text"

    run(ask)


def test_who_leaves_a_stream_ends_the_writing(folder: Path) -> None:
    async def ask() -> None:
        async with opened(folder) as doors:
            # With this seed the text ends after 65 tokens, long after its reader.
            body = {"model": "nonsense", "prompt": PROMPT, "max_tokens": 100_000, "seed": 1, "stream": True}
            watching = set[Callable[[], None]]()

            async def receive() -> dict[str, object]:
                return {"type": "http.request", "body": json.dumps(body).encode()}

            async def send(message: dict[str, object]) -> None:
                if message["type"] == "http.response.body":
                    for leave in watching:
                        leave()

            scope = {"type": "http", "method": "POST", "path": PATHS[0], "headers": [], WATCHING: watching}
            await doors.door(scope, receive, send)
            await doors.desk.find("nonsense").drain()
            assert [end.status for end in doors.ends.exchanges] == [499]
            again = {"model": "nonsense", "prompt": PROMPT, "max_tokens": 1}
            assert (await doors.client.post(PATHS[0], json=again)).status_code == 200

    run(ask)


def test_a_promotion_reaches_a_language_model_and_breaks_no_stream(tmp_path: Path, home: Path) -> None:
    """Versions swap while texts are written; each text is whole, and the version's that it names."""
    make = partial(register_version, tmp_path, project="nonsense", make=make_language_version)
    written = {}
    for seed in (1, 2):
        (one,) = Writer.load(make(seed)).write([PROMPT], GenerationConfig(max_new_tokens=30, **SETTINGS))
        written[f"nonsense_v{seed}"] = one.text

    async def ask() -> None:
        config = ServingConfig(follow_seconds=0.02, generations=8)
        async with opened("nonsense@champion", config=config) as doors, asyncio.TaskGroup() as clients:
            body = {"model": "nonsense", "prompt": PROMPT, "max_tokens": 30, "stream": True, **SETTINGS}
            seen, ended = list[str](), asyncio.Event()

            async def stream() -> None:
                while not ended.is_set():
                    response = await doors.client.post(PATHS[0], json=body)
                    version = response.headers["x-fairlead-model-version"]
                    *events, done, _ = response.text.split("\n\n")
                    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
                    assert done == "data: [DONE]" and not any("error" in chunk for chunk in chunks)
                    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
                    assert text == written[version]
                    seen.append(version)

            for _ in range(4):
                clients.create_task(stream())
            for number in (1, 2, 1):
                _promote(number)
                await until(lambda number=number: seen[-1:] == [f"nonsense_v{number}"])
            ended.set()

    run(ask)


def test_what_is_written_is_kept_as_texts_are_and_can_be_written_again(tmp_path: Path, home: Path) -> None:
    register_version(tmp_path, 1, "nonsense", make_language_version)
    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse("nonsense"))

    async def ask(kept: TextName) -> list[dict[str, Any]]:
        log = PredictionLog(open_store(str(tmp_path / kept)), PredictionLogConfig(text=kept))
        async with opened("nonsense") as doors:
            doors.desk.observers.append(PredictionJournal(log))
            body = {"model": "nonsense", "prompt": PROMPT, "max_tokens": 8, "n": 2}
            whole = await doors.client.post(PATHS[0], json=body)
            stream = await doors.client.post(PATHS[0], json=body | {"stream": True})
            v1 = await doors.client.post("/v1/models/nonsense:predict", json={"instances": [PROMPT]})
            ids = [one.headers["x-fairlead-prediction-id"] for one in (whole, stream, v1)]
            assert [len(log.get(id).events()) for id in ids] == [2, 2, 1]
        log.close()
        if kept == "full":
            assert [one["data"]["answer"]["text"] for one in log.get(ids[0]).events()] == [
                choice["text"] for choice in whole.json()["choices"]
            ]
        for id in ids:
            again = replay(version, events := log.get(id).events(), [PROMPT] * len(log.get(id).answers))
            assert again.verdict == "same" and events[0]["data"]["answer"]["num_prompt_tokens"] == len(PROMPT)
        return [{**log.get(id).events()[0]["data"]["answer"]} for id in ids]

    for kept, names in (("none", set()), ("hash", {"text_sha256"}), ("full", {"text"})):
        for answer in asyncio.run(asyncio.wait_for(ask(kept), 120)):
            assert set(answer) == {"num_prompt_tokens", "num_tokens", "finish_reason", *names}


def _promote(number: int) -> None:
    with open_registry() as registry:
        registry.set_alias("nonsense", CHAMPION, number)


MISTAKES: dict[str, tuple[dict[str, Any], int, str]] = {
    "no model": ({"model": None}, 400, "model"),
    "another model": ({"model": "other"}, 404, "other"),
    "a classifier": ({"model": "support_topics"}, 400, "support_topics"),
    "no prompt": ({"prompt": None}, 400, "prompt"),
    "empty prompt": ({"prompt": ""}, 400, "prompt"),
    "no prompts": ({"prompt": []}, 400, "prompt"),
    "token ids": ({"prompt": [1, 2]}, 400, "prompt"),
    "no tokens": ({"max_tokens": 0}, 400, "max_tokens"),
    "hot": ({"temperature": 1e9}, 400, "temperature"),
    "unknown field": ({"beam": 3}, 400, "beam"),
    "too many answers": ({"n": 33}, 400, "n:"),
    "stream of another type": ({"stream": "yes"}, 400, "stream"),
    "a stream of nobody": ({"stream": True, "model": "other"}, 404, "other"),
}


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    classifier = make_version(tmp_path / "classifier")

    async def ask() -> None:
        async with opened(folder, classifier) as doors:
            for case, (changes, status, word) in MISTAKES.items():
                body = {"model": "nonsense", "prompt": PROMPT, "max_tokens": 1} | changes
                response = await doors.client.post(PATHS[0], json=body)
                assert response.status_code == status, (case, response.text)
                assert word in response.json()["error"]["message"], (case, response.text)
            many = await doors.client.post("/v1/models/nonsense:predict", json={"instances": [PROMPT] * 33})
            assert many.status_code == 400 and "33 prompts" in many.json()["error"]
            for parameters in ({"max_new_tokens": 0}, {"beam": 1}, {"probabilities": True}):
                body = {"instances": [PROMPT], "parameters": parameters}
                response = await doors.client.post("/v1/models/nonsense:predict", json=body)
                assert response.status_code == 400 and "parameters" in response.json()["error"], response.text

    run(ask)
