"""The Open Inference Protocol over REST, with its extension for tensors as raw bytes behind the JSON."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from serving.answers import Column, columns
from serving.exchange import Answered
from serving.failures import InvalidRequest
from serving.interface import NORMALIZE, Interface
from serving.jsonbody import read_object
from serving.questions import BINARY_OUTPUT, Question, kind, read_generation, read_parameters, wanted_outputs
from serving.tensors import Tensor, items_of, read_tensor

# Length of the JSON in front of raw tensors, in requests and in answers.
JSON_LENGTH = b"inference-header-content-length"
EXAMPLE = '{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["text"]}]}'


def read(body: bytes, json_length: bytes | None, interface: Interface) -> Question:
    """Read a request; `json_length` is the header of that name. Raises InvalidRequest, which names the field."""
    size = len(body) if json_length is None else _read_length(json_length, body)
    request = read_object(body[:size] if size < len(body) else body, EXAMPLE)
    identity = request.get("id")
    if not isinstance(identity, str | None):
        raise InvalidRequest(f"id: a string is expected, not {kind(identity)}; quote it")
    parameters = read_parameters(request.get("parameters"), interface)
    items = items_of(_read_inputs(request, memoryview(body)[size:]), interface)
    named = _read_list(request, "outputs")
    outputs = wanted_outputs([output.get("name") for output in named], parameters, interface)
    binary, generation = _binary(named, outputs, parameters), read_generation(parameters, items, interface)
    return Question(items, outputs, identity or "", binary, generation, bool(parameters.get(NORMALIZE)))


def _read_length(value: bytes, body: bytes) -> int:
    # int() also takes signs, spaces and underscores.
    size = int(value) if value.isdigit() and len(value) < 20 else -1
    if not 0 <= size <= len(body):
        shown = value.decode("latin-1")[:40]
        raise InvalidRequest(
            f"{JSON_LENGTH.decode()}: {shown!r} is not the length of the JSON in {len(body):,} bytes; correct it"
        )
    return size


def _read_inputs(request: dict[str, Any], raw: memoryview) -> list[Tensor]:
    tensors, at = [], 0
    for index, given in enumerate(_read_list(request, "inputs")):
        field, data, part = f"inputs[{index}]", given.get("data"), None
        size = _raw_size(given.get("parameters"), field) if data is None else None
        if size is not None:
            if at + size > len(raw):
                raise InvalidRequest(
                    f"{field}.parameters.binary_data_size: {size:,} bytes do not follow the JSON, "
                    f"but {len(raw) - at:,}; correct it"
                )
            part, at = bytes(raw[at : at + size]), at + size
        tensor = read_tensor(field, given.get("name"), given.get("datatype"), given.get("shape"), data, part)
        if part is None and not isinstance(data, list):
            raise InvalidRequest(f"{field}.data: a list is expected, not {kind(data)}; send the elements in a list")
        tensors.append(tensor)
    if at != len(raw):
        raise InvalidRequest(
            f"body: {len(raw) - at:,} bytes follow that belong to no input; name their binary_data_size"
        )
    return tensors


def _raw_size(parameters: object, field: str) -> int | None:
    if not isinstance(parameters, dict) or "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise InvalidRequest(f"{field}.parameters.binary_data_size: a number of bytes is expected, not {size!r:.40}")
    return size


def _read_list(request: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = request.get(name)
    if value is None and name != "inputs":
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"{name}: a list is expected, not {kind(value)}; send {EXAMPLE}")
    for index, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise InvalidRequest(f"{name}[{index}]: an object is expected, not {kind(entry)}; send {EXAMPLE}")
        if not isinstance(entry.get("parameters"), dict | None):
            raise InvalidRequest(f"{name}[{index}].parameters: an object is expected; send {{}}")
    return value


def _binary(
    named: Sequence[dict[str, Any]], outputs: tuple[str, ...], parameters: Mapping[str, bool]
) -> frozenset[str]:
    """Outputs to send raw: those that say so, and where a request names none, all by its parameter."""
    everything = parameters.get(BINARY_OUTPUT, False)
    chosen = {name for name in outputs if everything}
    for index, output in enumerate(named):
        given = (output.get("parameters") or {}).get("binary_data")
        raw = everything if given is None else given
        if not isinstance(raw, bool):
            raise InvalidRequest(f"outputs[{index}].parameters: binary_data is true or false; correct it")
        chosen = chosen | {output["name"]} if raw else chosen - {output["name"]}
    return frozenset(chosen)


def written(answered: Answered) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON when raw tensors follow."""
    question, stamp = answered.question, answered.stamp
    raws: list[bytes] = []
    outputs = []
    for column in columns(question.outputs, answered.answers, answered.interface):
        output: dict[str, Any] = {"name": column.name, "shape": column.shape, "datatype": column.datatype}
        parameters: dict[str, Any] = dict(column.parameters)
        if column.name in question.binary:
            raws.append(raw_bytes(column))
            parameters["binary_data_size"] = len(raws[-1])
        else:
            output["data"] = column.data
        if parameters:
            output["parameters"] = parameters
        outputs.append(output)
    body = orjson.dumps(
        {
            "id": question.id or stamp.prediction_id,
            "model_name": stamp.model_name,
            "model_version": stamp.manifest.name,
            "outputs": outputs,
            "parameters": stamp.parameters(),
        }
    )
    return (b"".join([body, *raws]), len(body)) if raws else (body, None)


def raw_bytes(column: Column) -> bytes:
    """The elements as the binary tensor extension has them: little endian, texts with 4 bytes of length before."""
    if column.datatype == "BYTES":
        encoded = [element.encode() for element in column.data]
        return b"".join(part for text in encoded for part in (struct.pack("<I", len(text)), text))
    return np.asarray(column.data, "?" if column.datatype == "BOOL" else "<f4").tobytes()
