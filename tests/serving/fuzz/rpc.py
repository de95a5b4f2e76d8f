"""Malformed gRPC calls, drawn by hypothesis: messages with wrong fields, their bytes mutated, and bytes at random."""

from typing import Any

import grpc
from hypothesis import strategies as st
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.serving.fuzz import oracle
from tests.serving.fuzz.drawing import draw
from tests.serving.fuzz.tally import Tally

SERVICE = "/inference.GRPCInferenceService/"
OTHERS = ("ModelReady", "ModelMetadata", "RepositoryModelLoad", "ServerMetadata")
# What a caller's mistake may be answered with.
REFUSALS = ("INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED")

names = st.sampled_from(["text"] * 6 + ["input_ids", "attention_mask", "", "TEXT", "label"])
datatypes = st.sampled_from(["BYTES"] * 6 + ["INT64", "INT32", "bytes", "", "FP32", "\x00"])
shapes = st.lists(st.sampled_from([1, 1, 1, 2, 0, 3, -1, 2**62]), min_size=0, max_size=3) | st.just([1])
texts = st.binary(max_size=40) | st.sampled_from([b"my card", "日本 🙂".encode(), b"\xff", b"", b"\xed\xa0\x80"])
contents = st.fixed_dictionaries(
    {"bytes_contents": st.lists(texts, max_size=3)},
    optional={
        "int64_contents": st.lists(st.sampled_from([0, 1, 5, -1, 2**62]), max_size=4),
        "int_contents": st.lists(st.sampled_from([0, 1, 5, -1]), max_size=4),
        "bool_contents": st.just([True]),
        "fp32_contents": st.just([1.0]),
    },
)
choices = st.fixed_dictionaries({}, optional={"bool_param": st.booleans()}) | st.just({"string_param": "true"})
parameters = st.dictionaries(st.sampled_from(["probabilities", "binary_data_output", "top_k", ""]), choices, max_size=2)
inputs = st.fixed_dictionaries({"name": names, "datatype": datatypes, "shape": shapes}, optional={"contents": contents})
good = st.just({"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"my card"]}})
raws = st.lists(
    st.sampled_from([b"\x04\0\0\0card", b"\x05\0\0\0card", b"", b"\xff" * 8, b"\x01" + b"\0" * 7]), max_size=2
)
requests = st.fixed_dictionaries(
    {
        "model_name": st.sampled_from([oracle.MODEL] * 8 + ["", "other"]),
        "inputs": good.map(lambda one: [one]) | st.lists(inputs, min_size=1, max_size=2),
    },
    optional={
        "model_version": st.sampled_from(["", "3", "v3", "4", "\u0000"]),
        "id": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        "parameters": parameters,
        "outputs": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from([*oracle.OUTPUTS, "logits", ""])}), max_size=3
        ),
        "raw_input_contents": raws,
    },
).map(lambda fields: pb.ModelInferRequest(**fields).SerializeToString())


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The bytes of a message, some of them changed, cut out or put in."""
    content = bytearray(draw(requests))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content)


KINDS = {"gRPC, wrong fields": requests, "gRPC, changed bytes": mutated(), "gRPC, bytes": st.binary(max_size=200)}


def run(address: str, number: int, number_seed: int, tally: Tally) -> None:
    """So many calls, each answer compared with what the oracle says of its request."""
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        others = [(name, channel.unary_unary(SERVICE + name)) for name in OTHERS]
        for kind, strategy in KINDS.items():
            draw(strategy, number // 4, number_seed, lambda content, kind=kind: _call(kind, infer, content, tally))
        draw(st.binary(max_size=60), number // 4, number_seed, lambda content: _call_other(others, content, tally))


def _call(kind: str, method: Any, content: bytes, tally: Tally) -> None:
    valid = oracle.of_rpc(content)
    try:
        response = pb.ModelInferResponse.FromString(method(content, timeout=120))
    except grpc.RpcError as error:
        _refused(kind, error, content, tally)
        if valid is not None:
            tally.fail(kind, f"{error.code().name}, but {valid} valid texts: {error.details()}", content)
        return
    tally.add(kind, "OK")
    if {output.shape[0] for output in response.outputs} != {valid}:
        tally.fail(kind, f"OK, but {valid} valid texts", content)


def _call_other(methods: list[tuple[str, Any]], content: bytes, tally: Tally) -> None:
    """A method that has little to read: whatever it gets, it answers or refuses."""
    name, method = methods[sum(content) % len(methods)]
    try:
        method(content, timeout=120)
        tally.add("gRPC, other methods", "OK")
    except grpc.RpcError as error:
        _refused("gRPC, other methods", error, (name, content), tally)


def _refused(kind: str, error: Any, request: object, tally: Tally) -> None:
    tally.add(kind, error.code().name)
    if error.code().name not in REFUSALS:
        tally.fail(kind, f"{error.code().name}: {error.details()}", request)
