"""What a caller asks, read from a V1 body or a V2 request.

Everything here is the caller's: whatever is wrong is InvalidInput, which names the field, before the
model is touched.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from kserve import InferInput, InferRequest
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import to_http_parameters

# One request may not keep the model from all others for longer than a few seconds.
MAX_TEXTS = 1024
# The same limit as ingest has for a row.
MAX_TEXT_BYTES = 1_000_000

INPUT = "text"
DATATYPE = "BYTES"
LABEL, PROBABILITY, PROBABILITIES = "label", "probability", "probabilities"
# What a classifier of one label answers; other models have other outputs in their signature.
CLASSIFIER_OUTPUTS = (LABEL, PROBABILITY)
# Request parameters: `probabilities` adds that output, the other is the binary tensor extension's.
PARAMETERS = (PROBABILITIES, "binary_data_output")


@dataclass(frozen=True)
class Question:
    """One valid request."""

    texts: list[str]
    """What to classify, 1 to MAX_TEXTS."""
    outputs: tuple[str, ...]
    """Names of the outputs wanted, in order."""
    request: InferRequest | None = None
    """The V2 request that the answer is for; None for V1."""


def read_v1(body: object, outputs: tuple[str, ...] = CLASSIFIER_OUTPUTS, has_classes: bool = True) -> Question:
    """Read `{"instances": ["text", ...], "parameters": {"probabilities": true}}`.

    `outputs` are the model's; one with classes also has `probabilities`.
    """
    if isinstance(body, bytes):
        body = _parse(body)
    if not isinstance(body, dict):
        raise InvalidInput(f'body: an object is expected, not {_kind(body)}; send {{"instances": ["text", ...]}}')
    if "instances" not in body:
        raise InvalidInput('instances: it is missing; send {"instances": ["text", ...]}')
    instances = body["instances"]
    if not isinstance(instances, list):
        raise InvalidInput(f"instances: a list of texts is expected, not {_kind(instances)}; put the text in a list")
    parameters = _read_parameters(body.get("parameters"), has_classes)
    return Question(_read_texts(instances, "instances"), _wanted(outputs, parameters))


def read_v2(request: InferRequest, outputs: tuple[str, ...] = CLASSIFIER_OUTPUTS, has_classes: bool = True) -> Question:
    """Read a request of the Open Inference Protocol with one BYTES input `text`; the rest is as for `read_v1`."""
    # Only the body of the binary tensor extension comes here unchecked.
    if not isinstance(request.id, str | None):
        raise InvalidInput(f"id: a string is expected, not {_kind(request.id)}; quote it")
    parameters = _read_parameters(request.parameters, has_classes)
    wanted = _read_outputs(request, (*outputs, PROBABILITIES) if has_classes else outputs) or outputs
    if len(request.inputs) != 1:
        raise InvalidInput(f"inputs: one input, {INPUT!r}, is expected, not {len(request.inputs)}; send one")
    texts = _read_tensor(request.inputs[0])
    return Question(texts, _wanted(wanted, parameters), request)


def check_input(name: object, datatype: object) -> None:
    """Refuse an input that is not the model's."""
    if name != INPUT:
        raise InvalidInput(f"inputs[0].name: there is no input {name!r}; the model's only input is {INPUT!r}")
    if datatype != DATATYPE:
        raise InvalidInput(
            f"inputs[0].datatype: {INPUT!r} takes {DATATYPE}, not {datatype!r}; send texts as {DATATYPE}"
        )


def _read_tensor(tensor: InferInput) -> list[str]:
    check_input(tensor.name, tensor.datatype)
    shape = tensor.shape
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise InvalidInput(f"inputs[0].shape: {shape!r} is not a shape; send [number of texts]")
    # Clients write a column of texts as [n] or as [n, 1].
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise InvalidInput(f"inputs[0].shape: {shape} is refused; {INPUT!r} has the shape [-1]: send [number of texts]")
    if math.prod(shape) > MAX_TEXTS:
        raise _too_many(math.prod(shape), "inputs[0].data")
    try:
        elements = tensor.as_numpy()
    # The bytes of a raw tensor can disagree with themselves in many ways.
    except Exception as error:
        raise InvalidInput(
            f"inputs[0].data: it does not hold the {math.prod(shape)} elements of its shape "
            f"{shape}; correct shape or data"
        ) from error
    return _read_texts(elements.ravel().tolist(), "inputs[0].data")


def _read_texts(elements: list[Any], field: str) -> list[str]:
    if not elements:
        raise InvalidInput(f"{field}: it is empty; send at least one text")
    if len(elements) > MAX_TEXTS:
        raise _too_many(len(elements), field)
    return [_read_text(element, f"{field}[{index}]") for index, element in enumerate(elements)]


def _read_text(element: object, field: str) -> str:
    if not isinstance(element, str | bytes):
        raise InvalidInput(f"{field}: a text is expected, not {_kind(element)}; send a string")
    try:
        content = element.encode() if isinstance(element, str) else element
        text = content.decode()
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{field}: it is not UTF-8 ({error.reason}); encode it as UTF-8") from error
    if len(content) > MAX_TEXT_BYTES:
        raise InvalidInput(f"{field}: it has {len(content):,} bytes, over the limit of {MAX_TEXT_BYTES:,}; shorten it")
    return text


def _read_parameters(parameters: Any, has_classes: bool) -> dict[str, bool]:
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise InvalidInput(f"parameters: an object is expected, not {_kind(parameters)}; send {{}}")
    plain: dict[str, bool] = to_http_parameters(parameters)
    if PROBABILITIES in plain and not has_classes:
        raise InvalidInput(f"parameters.{PROBABILITIES}: this model gives numbers, which have none; leave it away")
    for name, value in plain.items():
        if name not in PARAMETERS:
            raise InvalidInput(f"parameters.{name}: there is no such parameter; known are {', '.join(PARAMETERS)}")
        if not isinstance(value, bool):
            raise InvalidInput(f"parameters.{name}: true or false is expected, not {value!r}; send a boolean")
    return plain


def _read_outputs(request: InferRequest, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(output.name for output in request.request_outputs or ())
    for index, output in enumerate(request.request_outputs or ()):
        if output.name not in known or names.count(output.name) > 1:
            raise InvalidInput(
                f"outputs[{index}].name: {output.name!r} is unknown or repeated; ask once each for {', '.join(known)}"
            )
        if not isinstance(output.parameters, Mapping | None) or not isinstance(output.binary_data, bool | None):
            raise InvalidInput(f"outputs[{index}].parameters: binary_data is true or false; correct it")
    return names


def _wanted(wanted: tuple[str, ...], parameters: Mapping[str, bool]) -> tuple[str, ...]:
    return (*wanted, PROBABILITIES) if parameters.get(PROBABILITIES) and PROBABILITIES not in wanted else wanted


def _parse(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f'body: it is not JSON ({error}); send {{"instances": ["text", ...]}}') from error


def _too_many(count: int, field: str) -> InvalidInput:
    return InvalidInput(
        f"{field}: {count:,} texts are over the limit of {MAX_TEXTS:,} a request; send several requests"
    )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
