"""Callers' mistakes: 4xx or INVALID_ARGUMENT, naming the field, in one sentence."""

import json
import struct
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.serving.conftest import Server

V1 = "/v1/models/support-topics:predict"
V2 = "/v2/models/support-topics/infer"
JSON = {"content-type": "application/json"}
BIG = "x" * 1_000_001


def check(response: httpx.Response, status: int, *names: str) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert "Traceback" not in body["error"]
    for name in names:
        assert name in body["error"], body["error"]


def still_answers(server: Server) -> None:
    assert server.post(V1, json={"instances": ["my card"]}).status_code == 200


V1_BODIES: dict[str, tuple[Any, str]] = {
    "not JSON": (b"{", "body"),
    "no body": (b"", "body"),
    "bad UTF-8": (b'{"instances": ["\xff\xfe"]}', "body"),
    "a list": (["my card"], "body"),
    "a string": ('"my card"', "body"),
    "null": (b"null", "body"),
    "a number": (b"1e999", "body"),
    "no instances": ({"instance": ["a"]}, "instances"),
    "null instances": ({"instances": None}, "instances"),
    "a text, not a list": ({"instances": "my card"}, "instances"),
    "an object": ({"instances": {"a": 1}}, "instances"),
    "empty": ({"instances": []}, "instances"),
    "null element": ({"instances": ["a", None]}, "instances[1]"),
    "number element": ({"instances": [3]}, "instances[0]"),
    "list element": ({"instances": ["a", ["b"]]}, "instances[1]"),
    "object element": ({"instances": [{"text": "a"}]}, "instances[0]"),
    "lone surrogate": (b'{"instances": ["\\ud800"]}', ""),
    "too many": ({"instances": ["a"] * 1025}, "1,024"),
    "too long": ({"instances": ["a", BIG]}, "instances[1]"),
    "parameters no object": ({"instances": ["a"], "parameters": [1]}, "parameters"),
    "unknown parameter": ({"instances": ["a"], "parameters": {"top_k": 3}}, "parameters.top_k"),
    "parameter of another type": ({"instances": ["a"], "parameters": {"probabilities": "yes"}}, "probabilities"),
    "deep nesting": (b'{"instances": ' + b"[" * 3000 + b"]" * 3000 + b"}", ""),
}


@pytest.mark.parametrize("case", V1_BODIES)
@pytest.mark.parametrize("headers", [JSON, {"content-type": "text/plain"}], ids=["json", "text"])
def test_v1(server: Server, case: str, headers: dict[str, str]) -> None:
    body, field = V1_BODIES[case]
    content = body if isinstance(body, bytes) else body if isinstance(body, str) else json.dumps(body)
    check(server.post(V1, content=content, headers=headers), 400, field)


def v2(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["my card"]} | changes]}


V2_BODIES: dict[str, tuple[Any, str]] = {
    "not JSON": (b'{"inputs":', "body"),
    "no body": (b"", "body"),
    "bad UTF-8": (b'{"inputs": "\xff"}', "body"),
    "a list": ([], "body"),
    "a string": (b'"x"', "body"),
    "no inputs": ({}, "inputs"),
    "null inputs": ({"inputs": None}, "inputs"),
    "no input": ({"inputs": []}, "inputs"),
    "two inputs": ({"inputs": v2()["inputs"] * 2}, "inputs"),
    "input of another type": ({"inputs": ["my card"]}, "inputs[0]"),
    "other name": (v2(name="question"), "inputs[0].name"),
    "no name": ({"inputs": [{"datatype": "BYTES", "shape": [1], "data": ["a"]}]}, "inputs[0].name"),
    "other datatype": (v2(datatype="INT64", data=[1]), "inputs[0].datatype"),
    "half floats": (v2(datatype="FP16", data=[1]), "text"),
    "unknown datatype": (v2(datatype="STRING"), "inputs[0].datatype"),
    "null datatype": (v2(datatype=None), "inputs[0].datatype"),
    "shape longer than data": (v2(shape=[2]), "shape"),
    "shape shorter than data": (v2(data=["a", "b"]), "shape"),
    "shape of two dimensions": (v2(shape=[1, 2], data=["a", "b"]), "inputs[0].shape"),
    "shape of none": (v2(shape=[]), "inputs[0].shape"),
    "negative shape": (v2(shape=[-1]), "inputs[0].shape"),
    "huge shape": (v2(shape=[2**62]), "1,024"),
    "shape of text": (v2(shape="one"), "inputs[0].shape"),
    "null shape": (v2(shape=None), "inputs[0].shape"),
    "empty": (v2(shape=[0], data=[]), "inputs[0].data"),
    "null data": (v2(data=None), "inputs[0].data"),
    "no data": ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1]}]}, "inputs[0].data"),
    "null element": (v2(data=[None]), "inputs[0].data[0]"),
    "number element": (v2(shape=[2], data=["a", 1]), "inputs[0].data[1]"),
    "object element": (v2(data=[{}]), "inputs[0].data[0]"),
    "ragged": (v2(shape=[2, 1], data=[["a"], ["b", "c"]]), "inputs[0].data"),
    "lone surrogate": (b'{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["\\ud800"]}]}', "data[0]"),
    "too many": (v2(shape=[1025], data=["a"] * 1025), "1,024"),
    "too long": (v2(data=[BIG]), "inputs[0].data[0]"),
    "id of another type": (v2() | {"id": 7}, "id"),
    "parameters no object": (v2() | {"parameters": 7}, "parameters"),
    "unknown parameter": (v2() | {"parameters": {"top_k": 3}}, "parameters.top_k"),
    "parameter of another type": (v2() | {"parameters": {"probabilities": 1}}, "parameters.probabilities"),
    "unknown output": (v2() | {"outputs": [{"name": "logits"}]}, "outputs[0].name"),
    "repeated output": (v2() | {"outputs": [{"name": "label"}] * 2}, "outputs[0].name"),
    "output without name": (v2() | {"outputs": [{}]}, "outputs[0].name"),
    "binary of another type": (
        v2() | {"outputs": [{"name": "label", "parameters": {"binary_data": "x"}}]},
        "outputs[0]",
    ),
    "deep nesting": (b'{"inputs": ' + b"[" * 3000 + b"]" * 3000 + b"}", ""),
}


@pytest.mark.parametrize("case", V2_BODIES)
def test_v2_rest(server: Server, case: str) -> None:
    body, field = V2_BODIES[case]
    check(server.post(V2, content=body if isinstance(body, bytes) else json.dumps(body), headers=JSON), 400, field)


@pytest.mark.parametrize("case", V2_BODIES)
def test_v2_rest_with_the_header_of_the_binary_extension(server: Server, case: str) -> None:
    """The same mistakes where FastAPI does not check the body."""
    body = V2_BODIES[case][0]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(content))}
    check(server.post(V2, content=content, headers=headers), 400)


def binary(header: dict[str, Any], raw: bytes, length: object = None) -> dict[str, Any]:
    content = json.dumps(header).encode()
    sizes = {"inference-header-content-length": str(len(content) if length is None else length)}
    return {"content": content + raw, "headers": {"content-type": "application/octet-stream"} | sizes}


def raw_text(size: int = 4, text: bytes = b"card") -> bytes:
    return struct.pack("<I", size) + text


def raw_input(size: object = 8) -> dict[str, Any]:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
    return {"inputs": [tensor]}


@pytest.mark.parametrize(
    "request_",
    [
        binary(raw_input(), raw_text(), length="ten"),
        binary(raw_input(), raw_text(), length=-1),
        binary(raw_input(), raw_text(), length=10**9),
        binary(raw_input(), raw_text(size=400)),
        binary(raw_input(), raw_text(size=2)),
        binary(raw_input(), raw_text(text=b"\xff\xfe\xfd\xfc")),
        binary(raw_input(size=4), raw_text()),
        binary(raw_input(size="8"), raw_text()),
        binary(raw_input(size=None), raw_text()),
        binary(raw_input(), b""),
        {"content": raw_text(), "headers": {"content-type": "application/octet-stream"}},
    ],
)
def test_v2_rest_binary_bodies(server: Server, request_: dict[str, Any]) -> None:
    assert server.post(V2, **binary(raw_input(), raw_text())).status_code == 200
    check(server.post(V2, **request_), 400)


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("POST", "/v1/models/other:predict", 404, "other"),
        ("POST", "/v2/models/other/infer", 404, "other"),
        ("POST", "/v2/models/support-topics/versions/4/infer", 404, "4"),
        ("POST", "/v2/models/other/versions/3/infer", 404, "other"),
        ("GET", "/v2/models/other", 404, "other"),
        ("GET", "/v2/models/other/ready", 404, "other"),
        ("GET", "/v2/models/support-topics/versions/4/ready", 404, "4"),
        ("GET", "/v1/models/other", 404, "other"),
        ("GET", "/nothing/here", 404, "/nothing/here"),
        ("PUT", V1, 405, "PUT"),
        ("DELETE", V2, 405, "DELETE"),
        ("POST", "/v1/models/support-topics:explain", 400, "explain"),
        ("POST", "/v2/repository/models/support-topics/unload", 400, "unload"),
        ("POST", "/v2/repository/models/other/unload", 404, "other"),
        ("POST", "/v2/repository/models/other/load", 404, "other"),
    ],
)
def test_addresses(server: Server, method: str, path: str, status: int, name: str) -> None:
    body = json.dumps(v2() | {"instances": ["my card"]})
    content = {"content": body, "headers": JSON} if method == "POST" else {}
    check(httpx.request(method, server.http + path, timeout=60, trust_env=False, **content), status, name)
    still_answers(server)


@pytest.mark.parametrize(
    "headers",
    [
        {"ce-specversion": "9", "ce-source": "a", "ce-type": "b", "ce-id": "c"},
        {"ce-specversion": "1.0", "ce-source": "a", "ce-type": "b", "ce-id": "c", "ce-contenttype": "x/y"},
    ],
)
def test_cloud_events_that_are_none(server: Server, headers: dict[str, str]) -> None:
    check(server.post(V1, content=b"\xff{", headers=JSON | headers), 400)


def test_a_body_over_the_limit_is_refused(server: Server) -> None:
    content = json.dumps({"instances": ["x" * 100_000] * 400})
    for path in (V1, V2):
        check(server.post(path, content=content, headers=JSON), 413, "33,554,432")
    still_answers(server)


def infer(server: Server, request: pb.ModelInferRequest) -> tuple[StatusCode, str]:
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as raised:
        GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
    return raised.value.code(), raised.value.details()


def rpc(*texts: bytes, **changes: Any) -> pb.ModelInferRequest:
    fields = {"name": "text", "datatype": "BYTES", "shape": [len(texts)]} | changes
    tensor = pb.ModelInferRequest.InferInputTensor(**fields)
    tensor.contents.bytes_contents.extend(texts)
    return pb.ModelInferRequest(model_name="support-topics", inputs=[tensor])


def rpc_raw(raw: bytes, shape: int = 1) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[shape])
    return pb.ModelInferRequest(model_name="support-topics", inputs=[tensor], raw_input_contents=[raw])


def rpc_with(**fields: Any) -> pb.ModelInferRequest:
    request = rpc(b"my card")
    request.MergeFrom(pb.ModelInferRequest(**fields))
    return request


RPCS: dict[str, tuple[pb.ModelInferRequest, str]] = {
    "no inputs": (pb.ModelInferRequest(model_name="support-topics"), "inputs"),
    "two inputs": (rpc_with(inputs=rpc(b"a").inputs), "inputs"),
    "other name": (rpc(b"a", name="question"), "inputs[0].name"),
    "other datatype": (rpc(b"a", datatype="FP32"), "inputs[0].datatype"),
    "unknown datatype": (rpc(b"a", datatype="STRING"), "inputs[0].datatype"),
    "empty": (rpc(shape=[0]), "inputs[0].data"),
    "no contents": (rpc(shape=[1]), "inputs[0].data"),
    "wrong shape": (rpc(b"a", b"b", shape=[3]), "shape"),
    "negative shape": (rpc(b"a", shape=[-1]), "inputs[0].shape"),
    "huge shape": (rpc(b"a", shape=[2**62]), "1,024"),
    "bad UTF-8": (rpc(b"a", b"\xff\xfe"), "inputs[0].data[1]"),
    "too many": (rpc(*[b"a"] * 1025), "1,024"),
    "too long": (rpc(BIG.encode()), "inputs[0].data[0]"),
    "raw too short": (rpc_raw(b"\x01"), "inputs[0].data"),
    "raw that promises more": (rpc_raw(raw_text(size=400)), "inputs[0].data"),
    "raw of another count": (rpc_raw(raw_text() * 2), "inputs[0].data"),
    "raw and contents": (rpc_with(raw_input_contents=[raw_text()]), "raw_input_contents"),
    "raw of another number": (rpc_with(raw_input_contents=[raw_text()] * 2), "raw input contents"),
    "unknown output": (rpc_with(outputs=[{"name": "logits"}]), "outputs[0].name"),
    "unknown parameter": (rpc_with(parameters={"top_k": pb.InferParameter(int64_param=3)}), "parameters.top_k"),
}


@pytest.mark.parametrize("case", RPCS)
def test_grpc(server: Server, case: str) -> None:
    request, field = RPCS[case]
    code, details = infer(server, request)
    assert code is StatusCode.INVALID_ARGUMENT, details
    assert field in details


def test_grpc_names_what_is_not_served(server: Server) -> None:
    other = rpc(b"my card")
    other.model_name = "other"
    code, details = infer(server, other)
    assert code is StatusCode.NOT_FOUND and "other" in details
    code, details = infer(server, rpc_with(model_version="4"))
    assert code is StatusCode.NOT_FOUND and "'4'" in details
    with grpc.insecure_channel(server.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for call, request in (
            (stub.ModelReady, pb.ModelReadyRequest(name="other")),
            (stub.ModelMetadata, pb.ModelMetadataRequest(name="other")),
            (stub.ModelMetadata, pb.ModelMetadataRequest(name="support-topics", version="4")),
            (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="other")),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                call(request, timeout=60)
            assert raised.value.code() is StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as raised:
            stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="support-topics"), timeout=60)
        assert raised.value.code() is StatusCode.INVALID_ARGUMENT
    still_answers(server)
