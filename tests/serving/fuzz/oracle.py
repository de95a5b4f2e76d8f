"""Which requests may be answered with 200: a second reading of the protocols, which shares no code with the server.

Each function returns the number of texts of a valid request, or None for one that must be refused.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any

from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.tiny import LABELS, MAX_LENGTH, WORDS

# Words of the tiny model and its four special tokens.
VOCABULARY = len(WORDS) + 4
MODEL, VERSIONS = "support-topics", ("", "support_topics_v3", "v3", "3")
OUTPUTS = ("label", "probability", "probabilities", "embedding")
FLAGS = ("probabilities", "embedding", "normalize", "binary_data_output")
EMBEDDING_SIZE = 64
MOST_TEXTS, MOST_BYTES = 1024, 1_000_000
assert LABELS


class Refused(Exception):
    """The request must be refused."""


def of_v1(body: bytes) -> int | None:
    """Of a V1 predict body."""
    return _counted(lambda: _v1(_json(body)))


def of_v2(body: bytes, json_length: str | None = None) -> int | None:
    """Of a V2 infer body, with the header of the binary extension where there is one."""
    return _counted(lambda: _v2(body, json_length))


def of_feedback(body: bytes, prediction: str) -> int | None:
    """Of the true label of the one text of `prediction`, whose model knows classes."""
    return _counted(lambda: _feedback(_json(body), prediction))


def of_rpc(content: bytes) -> int | None:
    """Of the bytes of a ModelInferRequest."""
    return _counted(lambda: _rpc(content))


def _counted(read: Any) -> int | None:
    try:
        return int(read())
    except Refused:
        return None


def _need(condition: object) -> None:
    if not condition:
        raise Refused


def _json(body: bytes) -> dict[str, Any]:
    def constant(name: str) -> None:
        raise Refused

    try:
        value = json.loads(body.decode("utf-8"), parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Refused from error
    # Also in parts that are not looked at: a string that no UTF-8 can hold is no JSON text.
    _need("\\ud" not in body.decode().lower() or _encodable(value))
    _need(isinstance(value, dict))
    return dict(value)


def _encodable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _feedback(given: dict[str, Any], prediction: str) -> int:
    _need(set(given) <= {"prediction_id", "label", "index"} and given.get("prediction_id") == prediction)
    label, index = given.get("label"), given.get("index")
    _need(isinstance(label, str) and len(label) <= 10_000 and "\0" not in label)
    _need(index is None or (type(index) is int and index == 0))
    return 1


def of_event(body: bytes, headers: dict[str, str]) -> int | None:
    """Of a V1 predict body that may come as a CloudEvent."""
    return _counted(lambda: _v1(_event(_json(body), headers)))


def of_embeddings(body: bytes) -> int | None:
    """Of the body of OpenAI's embeddings."""
    return _counted(lambda: _embeddings(_json(body)))


def _event(body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    names = ("specversion", "id", "source", "type")
    if "ce-specversion" in headers:
        _need(all(headers.get(f"ce-{name}") for name in names) and headers["ce-specversion"] in ("1.0", "0.3"))
        return body
    if headers.get("content-type", "").startswith("application/cloudevents"):
        _need(headers["content-type"].partition(";")[0].strip() == "application/cloudevents+json")
        _need(all(isinstance(body.get(name), str) and body[name] for name in names))
        _need(body["specversion"] in ("1.0", "0.3") and isinstance(body.get("data"), dict))
        return dict(body["data"])
    return body


def _embeddings(body: dict[str, Any]) -> int:
    _need(set(body) <= {"model", "input", "encoding_format", "dimensions", "user"} and body.get("model") == MODEL)
    _need(body.get("encoding_format") in (None, "float", "base64"))
    dimensions = body.get("dimensions")
    _need(dimensions is None or (type(dimensions) is int and dimensions == EMBEDDING_SIZE))
    given = body.get("input")
    given = [given] if isinstance(given, str) else given
    _need(isinstance(given, list) and given)
    if type(given[0]) is int:
        return _tokens([given])
    return _tokens(given) if isinstance(given[0], list) else _texts(given)


def _v1(body: dict[str, Any]) -> int:
    _flags(body.get("parameters"))
    instances = body.get("instances")
    _need(isinstance(instances, list) and instances)
    if isinstance(instances[0], list):
        return _tokens(instances)
    return _texts(instances)


def _v2(body: bytes, json_length: str | None) -> int:
    size = len(body)
    if json_length is not None:
        _need(json_length.isascii() and json_length.isdigit() and int(json_length) <= len(body))
        size = int(json_length)
    request, raw = _json(body[:size]), body[size:]
    _need(request.get("id") is None or isinstance(request["id"], str))
    outputs = _outputs(request.get("outputs"))
    _flags(request.get("parameters"), outputs)
    inputs = request.get("inputs")
    _need(isinstance(inputs, list) and inputs and all(isinstance(one, dict) for one in inputs))
    tensors: dict[str, tuple[str, list[int], Any]] = {}
    for one in inputs:
        parameters = one.get("parameters")
        _need(parameters is None or isinstance(parameters, dict))
        data = one.get("data")
        if data is None and "binary_data_size" in (parameters or {}):
            count = parameters["binary_data_size"]
            _need(type(count) is int and 0 <= count <= len(raw))
            data, raw = raw[:count], raw[count:]
        _need(isinstance(data, list | bytes) and isinstance(one.get("name"), str) and one["name"] not in tensors)
        _need(isinstance(one.get("datatype"), str))
        tensors[one["name"]] = (one["datatype"].upper(), one.get("shape"), data)
    _need(not raw)
    return _tensors(tensors)


def _rpc(content: bytes) -> int:
    try:
        request = pb.ModelInferRequest.FromString(content)
    except Exception as error:
        raise Refused from error
    _need(request.model_name == MODEL and request.model_version in VERSIONS)
    outputs = [output.name for output in request.outputs]
    _names(outputs)
    _flags(
        {
            name: getattr(value, value.WhichOneof("parameter_choice") or "", None)
            for name, value in request.parameters.items()
        },
        outputs,
    )
    raws = list(request.raw_input_contents)
    _need(not raws or len(raws) == len(request.inputs))
    tensors = {}
    for index, one in enumerate(request.inputs):
        filled = {filled.name: list(value) for filled, value in one.contents.ListFields()}
        _need(one.name not in tensors and not (raws and one.HasField("contents")))
        wanted = {"BYTES": "bytes_contents", "INT64": "int64_contents", "INT32": "int_contents"}.get(
            one.datatype.upper()
        )
        _need(wanted and not set(filled) - {wanted})
        data = raws[index] if raws else filled.get(str(wanted), [])
        tensors[one.name] = (one.datatype.upper(), list(one.shape), data)
    return _tensors(tensors)


def _tensors(tensors: dict[str, tuple[str, Any, Any]]) -> int:
    for _, shape, _ in tensors.values():
        _need(isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape))
    if set(tensors) == {"text"}:
        datatype, shape, data = tensors["text"]
        _need(datatype == "BYTES" and len(shape) in (1, 2) and shape[1:] in ([], [1]))
        elements = _length_prefixed(data) if isinstance(data, bytes) else _flat(data, shape)
        _need(len(elements) == shape[0])
        return _texts(elements)
    _need(set(tensors) in ({"input_ids"}, {"input_ids", "attention_mask"}))
    rows = _rows(*tensors["input_ids"])
    if "attention_mask" in tensors:
        _need(tensors["attention_mask"][1] == tensors["input_ids"][1])
        masks = _rows(*tensors["attention_mask"])
        _need(all(type(value) is int and value in (0, 1) for mask in masks for value in mask))
        _need(all(mask == sorted(mask, reverse=True) for mask in masks))
        rows = [row[: sum(mask)] for row, mask in zip(rows, masks, strict=True)]
    return _tokens(rows)


def _rows(datatype: str, shape: list[int], data: Any) -> list[list[Any]]:
    _need(datatype in ("INT64", "INT32") and len(shape) in (1, 2))
    count, width = (1, shape[0]) if len(shape) == 1 else shape
    _need(count <= MOST_TEXTS and width <= MAX_LENGTH)
    if isinstance(data, bytes):
        size = 8 if datatype == "INT64" else 4
        _need(len(data) == count * width * size)
        flat: Sequence[Any] = struct.unpack(f"<{count * width}{'q' if size == 8 else 'i'}", data)
    else:
        flat = _flat(data, shape)
    _need(len(flat) == count * width)
    return [list(flat[row * width : (row + 1) * width]) for row in range(count)]


def _flat(data: list[Any], shape: list[int]) -> list[Any]:
    if data and isinstance(data[0], list):
        width = shape[1] if len(shape) == 2 else 1
        _need(all(isinstance(row, list) and len(row) == width for row in data))
        return [element for row in data for element in row]
    return data


def _length_prefixed(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        _need(len(raw) >= 4)
        size = int.from_bytes(raw[:4], "little")
        _need(len(raw) >= 4 + size)
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found


def _texts(elements: Sequence[Any]) -> int:
    _need(0 < len(elements) <= MOST_TEXTS)
    for element in elements:
        _need(isinstance(element, str | bytes))
        try:
            content = element.encode() if isinstance(element, str) else element
            content.decode()
        except UnicodeError as error:
            raise Refused from error
        _need(len(content) <= MOST_BYTES)
    return len(elements)


def _tokens(rows: Sequence[Any]) -> int:
    _need(0 < len(rows) <= MOST_TEXTS)
    for row in rows:
        _need(isinstance(row, list) and 0 < len(row) <= MAX_LENGTH)
        _need(all(type(token) is int and 0 <= token < VOCABULARY for token in row))
    return len(rows)


def _flags(parameters: Any, outputs: Sequence[Any] = ()) -> None:
    _need(parameters is None or isinstance(parameters, dict))
    for name, value in (parameters or {}).items():
        _need(name in FLAGS and isinstance(value, bool))
    flags = parameters or {}
    _need(not flags.get("normalize") or flags.get("embedding") or "embedding" in outputs)


def _outputs(outputs: Any) -> list[Any]:
    _need(outputs is None or isinstance(outputs, list))
    for one in outputs or ():
        _need(isinstance(one, dict) and isinstance(one.get("parameters"), dict | None))
        binary = (one.get("parameters") or {}).get("binary_data")
        _need(binary is None or isinstance(binary, bool))
    names = [one.get("name") for one in outputs or ()]
    _names(names)
    return names


def _names(names: list[Any]) -> None:
    _need(all(isinstance(name, str) and name in OUTPUTS for name in names) and len(set(names)) == len(names))
