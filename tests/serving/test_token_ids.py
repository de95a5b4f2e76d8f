"""Token ids in place of texts, in all protocols."""

import asyncio
import json
import struct
from pathlib import Path
from typing import Any

import grpc
import pytest

from fairlead.inference.engine import Engine
from serving.protobuf import pb
from tests.serving.conftest import Server
from tests.tiny import MAX_LENGTH

V1 = "/v1/models/support-topics:predict"
V2 = "/v2/models/support-topics/infer"
TEXTS = ["my card was charged twice", "where is the parcel"]


@pytest.fixture(scope="module")
def engine(version: Path) -> Engine:
    return Engine.load(version)


@pytest.fixture(scope="module")
def ids(engine: Engine) -> list[list[int]]:
    return engine.tokenize(TEXTS)


def check(server: Server, engine: Engine, body: dict[str, Any]) -> None:
    expected = [answer.label for answer in engine.predict(TEXTS)]
    response = server.post(V2, json=body)
    assert response.status_code == 200, response.text
    assert response.json()["outputs"][0]["data"] == expected[: len(response.json()["outputs"][0]["data"])]


def tensor(name: str, rows: list[list[int]], **changes: Any) -> dict[str, Any]:
    flat = [value for row in rows for value in row]
    return {"name": name, "datatype": "INT64", "shape": [len(rows), len(rows[0])], "data": flat} | changes


def test_v1(server: Server, engine: Engine, ids: list[list[int]]) -> None:
    by_ids = server.post(V1, json={"instances": ids}).json()["predictions"]
    assert by_ids == server.post(V1, json={"instances": TEXTS}).json()["predictions"]


def test_v2(server: Server, engine: Engine, ids: list[list[int]]) -> None:
    check(server, engine, {"inputs": [tensor("input_ids", ids[:1])]})
    check(server, engine, {"inputs": [tensor("input_ids", ids[:1], data=ids[:1])]})
    check(server, engine, {"inputs": [tensor("input_ids", ids[:1], datatype="INT32", shape=[len(ids[0])])]})


def test_v2_of_several_texts_with_the_mask_of_their_padding(
    server: Server, engine: Engine, ids: list[list[int]]
) -> None:
    width = max(map(len, ids))
    padded = [row + [0] * (width - len(row)) for row in ids]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in ids]
    check(server, engine, {"inputs": [tensor("input_ids", padded), tensor("attention_mask", mask)]})
    check(server, engine, {"inputs": [tensor("attention_mask", mask), tensor("input_ids", padded)]})


def test_v2_raw(server: Server, engine: Engine, ids: list[list[int]]) -> None:
    raw = struct.pack(f"<{len(ids[0])}q", *ids[0])
    given = {"name": "input_ids", "datatype": "INT64", "shape": [1, len(ids[0])]}
    header = json.dumps({"inputs": [given | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    sizes = {"inference-header-content-length": str(len(header))}
    response = server.post(V2, content=header + raw, headers=sizes)
    assert response.json()["outputs"][0]["data"] == [engine.predict(TEXTS)[0].label]


@pytest.mark.parametrize("raw", [False, True])
def test_grpc(server: Server, engine: Engine, ids: list[list[int]], raw: bool) -> None:
    async def ask() -> Any:
        request = pb.ModelInferRequest(model_name="support-topics")
        given = request.inputs.add(name="input_ids", datatype="INT64", shape=[1, len(ids[0])])
        if raw:
            request.raw_input_contents.append(struct.pack(f"<{len(ids[0])}q", *ids[0]))
        else:
            given.contents.int64_contents.extend(ids[0])
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
            return await infer(request, timeout=60)

    response = asyncio.run(ask())
    label = response.raw_output_contents[0][4:] if raw else response.outputs[0].contents.bytes_contents[0]
    assert label.decode() == engine.predict(TEXTS)[0].label


MISTAKES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no token": ([tensor("input_ids", [[]])], "inputs[0].data[0]"),
    "no text": ([tensor("input_ids", [[2, 3]], shape=[0, 2], data=[])], "inputs[0].data"),
    "of another model": ([tensor("input_ids", [[2, 4000]])], "inputs[0].data[0][1]"),
    "negative": ([tensor("input_ids", [[-1, 2]])], "inputs[0].data[0][0]"),
    "huge": ([tensor("input_ids", [[2**70, 2]])], "inputs[0].data[0][0]"),
    "a fraction": ([tensor("input_ids", [[2, 2]], data=[2, 2.5])], "inputs[0].data[0][1]"),
    "a truth": ([tensor("input_ids", [[2, 2]], data=[2, True])], "inputs[0].data[0][1]"),
    "too long": ([tensor("input_ids", [[2] * (MAX_LENGTH + 1)])], "inputs[0].shape"),
    "another shape": ([tensor("input_ids", [[2, 3]], shape=[1, 3])], "inputs[0].data"),
    "three dimensions": ([tensor("input_ids", [[2, 3]], shape=[1, 1, 2])], "inputs[0].shape"),
    "as texts": ([tensor("input_ids", [[2, 3]], datatype="BYTES")], "inputs[0].datatype"),
    "mask alone": ([tensor("attention_mask", [[1, 1]])], "inputs"),
    "mask of another shape": ([tensor("input_ids", [[2, 3]]), tensor("attention_mask", [[1]])], "inputs[1].shape"),
    "mask with a hole": ([tensor("input_ids", [[2, 3]]), tensor("attention_mask", [[0, 1]])], "inputs[1].data"),
    "mask of nothing": ([tensor("input_ids", [[2, 3]]), tensor("attention_mask", [[0, 0]])], "inputs[0].data[0]"),
    "twice": ([tensor("input_ids", [[2, 3]])] * 2, "inputs"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named(server: Server, case: str) -> None:
    inputs, field = MISTAKES[case]
    response = (
        server.post(V2, json={"inputs": inputs})
        if case != "huge"
        else server.post(V2, content=json.dumps({"inputs": inputs}))
    )
    assert response.status_code == 400, response.text
    assert field in response.json()["error"], response.text


def test_texts_and_ids_are_not_mixed(server: Server) -> None:
    for instances in ([[2, 3], "my card"], ["my card", [2, 3]]):
        response = server.post(V1, json={"instances": instances})
        assert response.status_code == 400 and "instances[1]" in response.json()["error"]
