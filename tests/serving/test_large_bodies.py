"""Large JSON bodies are read in parts: the same values, what no request has refused, and the limits named."""

import asyncio
import gc
import json
import random
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest

from serving import jsonparts, reading
from serving.failures import InvalidRequest
from serving.protobuf import pb
from serving.wire import check_message
from tests.serving.doors import V1, V2, infer_request, opened, rpc_opened, run

PIECES = ["a", '"', "\\", "\n", "é", "🙂", "[", "{", ",", "\u2028", "x" * 9]


@pytest.mark.parametrize("seed", range(20))
def test_values_are_those_of_the_parser_wherever_parts_end(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(seed)
    monkeypatch.setattr(jsonparts, "PART_BYTES", generator.randint(1, 40))
    monkeypatch.setattr(jsonparts, "LONG_STRING_BYTES", generator.randint(0, 6))
    # No fewer than the indentation and a number.
    monkeypatch.setattr(jsonparts, "PIECE_BYTES", generator.randint(40, 90))
    monkeypatch.setattr(jsonparts, "LONG_ROW_BYTES", generator.randint(0, 60))

    def value(depth: int) -> object:
        kind = generator.randint(0, 6 if depth else 3)
        text = "".join(generator.choices(PIECES, k=generator.randint(0, 6)))
        if kind > 5:
            numbers = generator.choices([7, -1.5e-3, True, None, 10**12], k=generator.randint(0, 60))
            return generator.choice([numbers, [*numbers, text, *numbers, [], *numbers]])
        if kind > 4:
            return {f"{text}{n}": value(depth - 1) for n in range(generator.randint(0, 3))}
        if kind > 3:
            return [value(depth - 1) for _ in range(generator.randint(0, 4))]
        return [text, 1.5, None, -3][kind]

    given = {"instances": [value(4) for _ in range(5)]}
    body = json.dumps(given, ensure_ascii=generator.random() < 0.5, indent=generator.choice([None, 2])).encode()
    assert jsonparts.loads(body) == given
    # What is no JSON is none here, too.
    broken = body[: generator.randrange(len(body))]
    with pytest.raises((InvalidRequest, orjson.JSONDecodeError)):
        jsonparts.loads(broken)


def test_what_no_request_has_is_refused_before_it_is_parsed(version: Path) -> None:
    texts = orjson.dumps({"instances": ["my card " * 100] * 1025})
    ids = orjson.dumps({"instances": [[3] * 64] * 1024})
    bodies = {
        b'{"instances":[' + b"[]," * 100_000 + b"1]}": "more than 4,096 lists",
        b'{"instances":[' + b'"",' * 100_000 + b'""]}': "more than 4,096 strings",
        b'{"instances":[' + b"1," * 2_000_000 + b"1]}": "1,048,576 elements",
        b"[" * 100_000: "more than 4,096 lists",
        b'{"instances":["' + b"a" * 100_000: "a string has no end",
        b'{"instances":["' + b"\\" * 99_999 + b'"]}': "a string has no end",
        b'{"instances":["' + b"a" * 6_100_000 + b'"]}': "over the limit of a text",
        b'{"instances":["a", "' + b"a" * 1_100_000 + b'"]}': "instances[1]: it has 1,100,000 bytes",
        b'{"instances":["a", "' + b"\xff" * 100_000 + b'"]}': "instances[1]: it is no string of JSON in UTF-8",
        b'{"instances":[' + b" " * 100_000 + b"}": "it is not JSON",
        b'{"instances":[1,' + b"7" * 100_000 + b",1]}": "32,768 bytes have no comma",
        b'{"instances":[' + b"1," * 40_000 + b"," + b"1," * 40_000 + b"1]}": "it is not JSON",
        b'{"instances":[1' + b"]" * 100_000: "more than 4,096 lists",
        b'"' + b"a" * 100_000 + b'"': "an object is expected, not a string",
        b'{"a' + b"a" * 100_000 + b'":1}': "instances: it is missing",
        texts: "1,025 texts are over the limit",
        ids: "64 tokens are over the model's 16",
    }

    async def ask() -> None:
        async with opened(version) as doors:
            for path in (V1, V2, "/v1/completions", "/v1/embeddings"):
                for body, words in bodies.items():
                    response = await doors.client.post(path, content=body)
                    assert response.status_code == 400, (path, response.text[:300])
                    assert path != V1 or words in response.text, response.text[:300]
            assert (await doors.ask("my card", "é" * 400_000)).status_code == 200

    run(ask)


def test_messages_that_no_request_is_are_refused_before_they_are_parsed(version: Path) -> None:
    def numbers(count: int) -> Any:
        request = pb.ModelInferRequest(model_name="topics")
        tensor = request.inputs.add(name="input_ids", datatype="INT64", shape=[1, count])
        tensor.contents.int64_contents.extend([300] * count)
        return request

    tensors = pb.ModelInferRequest(model_name="topics", inputs=[pb.ModelInferRequest.InferInputTensor()] * 40_000)
    refused = {
        "more than 8,192 fields": tensors,
        "1,048,576 elements": numbers((1 << 20) + 1),
        "200,000 tokens are over the model's 16": numbers(200_000),
        "1,025 texts are over the limit": infer_request(*["my card was charged " * 5] * 1025),
    }

    def long_lists() -> int:
        return sum(1 for one in gc.get_objects() if type(one) is list and len(one) >= 200_000)

    async def ask() -> None:
        async with opened(version) as doors, rpc_opened(doors) as infer:
            before = long_lists()
            gc.disable()
            for words, request in refused.items():
                with pytest.raises(grpc.RpcError, match=words) as raised:
                    await infer(request)
                assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert [end.status for end in doors.ends.exchanges] == [400] * len(refused)
            assert long_lists() == before, "what was refused does not wait for the garbage collector"
            gc.enable()
            answered = await infer(infer_request("my card " * 100_000, "where is the parcel"))
            assert [len(output.contents.bytes_contents) for output in answered.outputs if output.name == "label"] == [2]

    run(ask)


def test_wherever_a_message_ends_its_check_does() -> None:
    content = infer_request("my card", "é" * 300).SerializeToString()
    for end in range(len(content)):
        check_message(content[:end], pb.ModelInferRequest)
    for start in range(0, len(content), 7):
        check_message(content[start:], pb.ModelInferRequest)
    with pytest.raises(InvalidRequest, match="more than 8,192 fields"):
        # Groups within groups, which no field of the protocol is.
        check_message(b"\x0b" * 9000 + b"\x0c" * 9000, pb.ModelInferRequest)


def test_when_many_large_bodies_wait_more_are_refused(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        monkeypatch.setattr(reading, "MAX_READING", 2)
        async with opened(version) as doors:
            asked = [doors.ask("my card " * 20_000) for _ in range(20)]
            statuses = sorted(one.status_code for one in await asyncio.gather(*asked))
            assert statuses[0] == 200 and set(statuses) <= {200, 429}
            assert 429 in statuses
            assert (await doors.ask("my card " * 20_000)).status_code == 200

    run(ask)
