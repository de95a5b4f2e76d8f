"""OpenAI's own client against a server of a language model and a classifier."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from fairlead.inference.config import GenerationConfig
from fairlead.inference.engine import Engine
from fairlead.inference.generation import Writer
from tests.inference.writing import make_language_version
from tests.serving.conftest import running
from tests.tiny import make_version

PROMPT = "ROMEO:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_language_version(tmp_path_factory.mktemp("openai") / "version")


@pytest.fixture(scope="module", params=["/v1", "/openai/v1"])
def client(folder: Path, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    server = request.getfixturevalue("writing_server")
    with httpx.Client(trust_env=False) as http:
        yield openai.OpenAI(base_url=server + request.param, api_key="none", max_retries=0, http_client=http)


@pytest.fixture(scope="module")
def writing_server(folder: Path) -> Iterator[str]:
    classifier = make_version(folder.parent / "classifier")
    with running(folder, "--model", str(classifier), "--prediction-log", "off") as server:
        yield server.http


def test_texts_are_written_whole_or_as_a_stream(client: openai.OpenAI, folder: Path) -> None:
    config = GenerationConfig(max_new_tokens=20, temperature=0.8, seed=3)
    expected = Writer.load(folder).write([PROMPT] * 2, config)
    asked = {
        "model": "nonsense",
        "prompt": PROMPT,
        "max_tokens": 20,
        "temperature": 0.8,
        "seed": 3,
        "n": 2,
        "best_of": 2,
    }
    whole = client.completions.create(**asked, echo=True)
    assert [choice.text for choice in whole.choices] == [PROMPT + one.text for one in expected]
    assert whole.usage.prompt_tokens == expected[0].num_prompt_tokens
    assert whole.usage.completion_tokens == sum(one.num_tokens for one in expected)
    texts, chunks = (
        ["", ""],
        list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True})),
    )
    for chunk in chunks[:-1]:
        assert chunk.usage is None
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [one.text for one in expected]
    assert {choice.finish_reason for choice in chunks[-2].choices} <= {"stop", "length"}
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    del asked["seed"]
    once, again = (client.completions.create(**asked).choices[0].text for _ in range(2))
    assert once != again, "who gives no seed gets another text each time"


REFUSED = {
    "logprobs": {"logprobs": 2},
    "presence_penalty": {"presence_penalty": 0.5},
    "suffix": {"suffix": "the end"},
    "n": {"n": 33},
    "best_of": {"best_of": 3},
    "temperature": {"temperature": 1e9},
    "max_tokens": {"max_tokens": 0},
    "top_p": {"top_p": 0.0},
    "stop": {"stop": ["a"] * 17},
    "prompt": {"prompt": [1, 2]},
    "stream_options": {"stream_options": {"include_usage": True}},
    "beam": {"extra_body": {"beam": 1}},
}


def test_what_is_not_done_is_refused_in_openais_form(client: openai.OpenAI) -> None:
    for field, change in REFUSED.items():
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(**{"model": "nonsense", "prompt": PROMPT} | change)
        error = refused.value
        assert (error.param, error.type, error.code) == (field, "invalid_request_error", None), field
        assert error.body["message"].startswith(f"{field}"), field
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as missing:
            client.completions.create(model="other", prompt=PROMPT, stream=stream)
        assert (missing.value.param, missing.value.code) == ("model", "model_not_found")
        with pytest.raises(openai.BadRequestError, match="labels texts"):
            client.completions.create(model="support_topics", prompt=PROMPT, stream=stream)
    # With this seed the text ends after 65 tokens, which no machine writes in a millisecond.
    asked = {"max_tokens": 100_000, "seed": 1, "extra_headers": {"x-request-timeout-ms": "1"}}
    with pytest.raises(openai.APIStatusError, match="ask for fewer tokens") as late:
        client.completions.create(model="nonsense", prompt=PROMPT, **asked)
    assert (late.value.status_code, late.value.code, late.value.type) == (504, "deadline_exceeded", "server_error")


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert sorted(model.id for model in client.models.list()) == ["nonsense", "support_topics"]
    assert client.models.retrieve("nonsense").id == "nonsense"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_a_classifier_embeds_texts(client: openai.OpenAI, folder: Path) -> None:
    engine = Engine.load(folder.parent / "classifier")
    texts = ["my card was charged twice", "where is the parcel"]
    expected = [one.normalized().embedding for one in engine.embed_batch(engine.tokenize(texts))]
    for form in ({}, {"encoding_format": "float"}, {"dimensions": engine.embedding_size}):
        found = client.embeddings.create(model="support_topics", input=texts, **form)
        assert np.abs(np.array([one.embedding for one in found.data]) - expected).max() < 1e-4, form
        assert [one.index for one in found.data] == [0, 1]
        assert found.usage.total_tokens == sum(map(len, engine.tokenize(texts)))
    (by_ids,) = client.embeddings.create(model="support_topics", input=engine.tokenize(texts[:1])[0]).data
    assert np.abs(np.array(by_ids.embedding) - expected[0]).max() < 1e-4
    with pytest.raises(openai.BadRequestError, match="writes texts"):
        client.embeddings.create(model="nonsense", input=texts)
