"""Embeddings on request: through V1, V2, gRPC and OpenAI's form, beside the answers and never unasked."""

import asyncio
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.inference.engine import Engine
from tests.serving.doors import V1, V2, Doors, infer_request, opened, rpc_opened, run

TEXTS = ["my card was charged twice", "where is the parcel"]
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [2], "data": TEXTS}


@pytest.fixture(scope="module")
def expected(version: Path) -> np.ndarray:
    engine = Engine.load(version)
    return np.stack([one.embedding for one in engine.embed_batch(engine.tokenize(TEXTS))])


def close(found: Any, expected: np.ndarray) -> bool:
    return bool(np.abs(np.reshape(np.asarray(found, np.float32), expected.shape) - expected).max() < 1e-4)


def test_every_protocol_gives_the_embedding_beside_the_answer(version: Path, expected: np.ndarray) -> None:
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)

    async def ask() -> None:
        async with opened(version) as doors, rpc_opened(doors) as infer:
            parameters = {"embedding": True, "normalize": True}
            v1 = (await doors.client.post(V1, json={"instances": TEXTS, "parameters": parameters})).json()
            assert close([row["embedding"] for row in v1["predictions"]], unit)
            assert {"label", "probability"} <= set(v1["predictions"][0])
            asked: dict[str, Any] = {"inputs": [TENSOR], "outputs": [{"name": "embedding"}, {"name": "label"}]}
            embedding, label = (await doors.client.post(V2, json=asked)).json()["outputs"]
            assert (embedding["datatype"], embedding["shape"]) == ("FP32", list(expected.shape))
            assert close(embedding["data"], expected) and len(label["data"]) == 2
            asked["outputs"] = [{"name": "embedding", "parameters": {"binary_data": True}}]
            raw = await doors.client.post(V2, json=asked)
            size = int(raw.headers["inference-header-content-length"])
            assert close(struct.unpack(f"<{expected.size}f", raw.content[size:]), expected)
            request = infer_request(*TEXTS)
            request.parameters["embedding"].bool_param = True
            output = {one.name: one for one in (await infer(request)).outputs}["embedding"]
            assert list(output.shape) == list(expected.shape) and close(output.contents.fp32_contents, expected)
            metadata = (await doors.client.get("/v2/models/topics")).json()
            shapes = {one["name"]: one["shape"] for one in metadata["outputs"]}
            assert shapes["embedding"] == [-1, expected.shape[1]] and shapes["probabilities"] == [-1, 3]

    run(ask)


def test_neighbours_in_a_batch_get_what_each_asked_for(version: Path, expected: np.ndarray) -> None:
    async def ask() -> None:
        async with opened(version) as doors:
            with_it, without = await _both(doors)
            assert close(with_it["predictions"][0]["embedding"], expected[0])
            assert "embedding" not in without["predictions"][0]
            assert len(doors.runner.batches) == 2, "what waited was computed together"

    run(ask)


async def _both(doors: Doors) -> tuple[Any, Any]:
    """Two requests that are computed in one batch, which waits behind another."""
    doors.runner.free.clear()
    first = asyncio.create_task(doors.ask("refund please"))
    await doors.computing()
    body = {"instances": TEXTS[:1], "parameters": {"embedding": True}}
    asked = [asyncio.create_task(doors.client.post(V1, json=body)), asyncio.create_task(doors.ask(TEXTS[0]))]
    while doors.served.room.tokens < 20:
        await asyncio.sleep(0.001)
    doors.runner.free.set()
    await first
    found = [(await one).json() for one in asked]
    return found[0], found[1]


def test_mistakes_are_named_and_a_variant_without_embeddings_names_one_with_them(version: Path) -> None:
    async def ask() -> None:
        async with opened(version) as doors:
            for body, word in (
                ({"parameters": {"embedding": 1}}, "parameters.embedding"),
                ({"parameters": {"normalize": True}}, "parameters.normalize"),
                ({"parameters": {"embeddings": True}}, "parameters.embeddings"),
            ):
                response = await doors.client.post(V1, json={"instances": TEXTS} | body)
                assert response.status_code == 400 and word in response.json()["error"], response.text
            for change, field in (
                ({"input": []}, "input"),
                ({"input": None}, "input"),
                ({"input": [3, "a"]}, "input"),
                ({"input": ["a", 3]}, "input"),
                ({"input": [99_999]}, "input"),
                ({"encoding_format": "hex"}, "encoding_format"),
                ({"dimensions": 3}, "dimensions"),
                ({"truncate": True}, "truncate"),
                ({"model": 3}, "model"),
            ):
                response = await doors.client.post("/v1/embeddings", json={"model": "topics", "input": "a"} | change)
                assert (response.status_code, response.json()["error"]["param"]) == (400, field), response.text
            assert (await doors.client.post("/v1/embeddings", json={"model": "no", "input": "a"})).status_code == 404
        async with opened(version) as doors:
            doors.runner.embedding_size = 0
            for path, body in (
                (V1, {"instances": TEXTS, "parameters": {"embedding": True}}),
                (V2, {"inputs": [TENSOR], "outputs": [{"name": "embedding"}]}),
                ("/v1/embeddings", {"model": "topics", "input": "a"}),
            ):
                response = await doors.client.post(path, json=body)
                assert response.status_code == 400 and "have torch-fp32 served" in response.text, response.text
            assert (await doors.ask(*TEXTS)).status_code == 200

    run(ask)
