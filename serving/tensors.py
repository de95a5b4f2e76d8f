"""Tensors of the Open Inference Protocol, the same in REST and gRPC: names, datatypes, shapes, raw bytes."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.failures import InvalidRequest
from serving.interface import TEXT, TOKEN_IDS, TOKEN_MASK, Interface
from serving.questions import MAX_TEXTS, TokenIds, check_count, read_texts, read_token_ids

DATATYPES = {TEXT: ("BYTES",), TOKEN_IDS: ("INT64", "INT32"), TOKEN_MASK: ("INT64", "INT32")}
_ITEMS = {"INT64": np.dtype("<i8"), "INT32": np.dtype("<i4")}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input as it came, its name, datatype and shape checked."""

    field: str
    """Where it stands in the request: `inputs[0]`."""
    name: str
    """Its name, one of DATATYPES."""
    datatype: str
    """Its datatype."""
    shape: list[int]
    """Its shape."""
    elements: Sequence[Any] | None
    """Its elements, flat or nested by rows; None when they come raw."""
    raw: bytes | None = None
    """Its elements as the binary tensor extension has them."""


def read_tensor(
    field: str, name: object, datatype: object, shape: object, elements: Sequence[Any] | None, raw: bytes | None
) -> Tensor:
    """Check what an input says of itself. Raises InvalidRequest."""
    if not isinstance(name, str) or name not in DATATYPES:
        raise InvalidRequest(
            f"{field}.name: there is no input {name!r}; send {TEXT!r}, or {TOKEN_IDS!r} for tokens of your own"
        )
    upper = datatype.upper() if isinstance(datatype, str) else datatype
    if upper not in DATATYPES[name]:
        raise InvalidRequest(
            f"{field}.datatype: {name!r} takes {DATATYPES[name][0]}, not {datatype!r}; send it as {DATATYPES[name][0]}"
        )
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise InvalidRequest(f"{field}.shape: {shape!r:.100} is not a shape; send [number of texts]")
    return Tensor(field, name, str(upper), shape, elements, raw)


def items_of(tensors: Sequence[Tensor], interface: Interface) -> list[str] | list[TokenIds]:
    """What the inputs hold: texts, or token ids, cut where their mask ends."""
    names = [tensor.name for tensor in tensors]
    if names == [TEXT]:
        return _texts(tensors[0])
    if names == [TOKEN_IDS]:
        return _token_ids(tensors[0], None, interface)
    if sorted(names) == sorted((TOKEN_IDS, TOKEN_MASK)):
        ids, mask = sorted(tensors, key=lambda tensor: tensor.name == TOKEN_MASK)
        return _token_ids(ids, mask, interface)
    said = ", ".join(names) or "none"
    raise InvalidRequest(
        f"inputs: one input, {TEXT!r}, is expected, not {said}; send one, or {TOKEN_IDS!r} with {TOKEN_MASK!r}"
    )


def _texts(tensor: Tensor) -> list[str]:
    shape, data = tensor.shape, f"{tensor.field}.data"
    # Clients write a column of texts as [n] or as [n, 1].
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise InvalidRequest(
            f"{tensor.field}.shape: {shape} is refused; {TEXT!r} has the shape [-1]: send [number of texts]"
        )
    check_count(shape[0], data)
    elements = _strings(tensor) if tensor.elements is None else _flat(tensor)
    if len(elements) != shape[0]:
        raise _disagree(tensor)
    return read_texts(elements, data)


def _token_ids(ids: Tensor, mask: Tensor | None, interface: Interface) -> list[TokenIds]:
    rows = _rows(ids, interface)
    if mask is not None:
        if mask.shape != ids.shape:
            raise InvalidRequest(
                f"{mask.field}.shape: it is {mask.shape}, not {ids.shape} as of {TOKEN_IDS!r}; correct it"
            )
        lengths = [_masked_length(row, f"{mask.field}.data") for row in _rows(mask, interface)]
        rows = [row[:length] for row, length in zip(rows, lengths, strict=True)]
    return [read_token_ids(row, f"{ids.field}.data[{index}]", interface) for index, row in enumerate(rows)]


def _masked_length(mask: list[int], field: str) -> int:
    length = sum(1 for value in mask if value == 1)
    # true and 1.0 equal 1.
    if any(type(value) is not int for value in mask) or mask != [1] * length + [0] * (len(mask) - length):
        raise InvalidRequest(f"{field}: a row of the mask is ones, then zeros; pad on the right")
    return length


def _rows(tensor: Tensor, interface: Interface) -> list[list[Any]]:
    shape = tensor.shape
    if len(shape) not in (1, 2):
        raise InvalidRequest(f"{tensor.field}.shape: {shape} is refused; send [texts, tokens of each]")
    count, width = (1, shape[0]) if len(shape) == 1 else shape
    check_count(count, f"{tensor.field}.data")
    most = interface.manifest.training.max_length
    if width > most:
        raise InvalidRequest(f"{tensor.field}.shape: {width:,} tokens are over the model's {most:,}; shorten the texts")
    flat = _numbers(tensor) if tensor.elements is None else _flat(tensor)
    if len(flat) != count * width:
        raise _disagree(tensor)
    return [list(flat[start : start + width]) for start in range(0, len(flat), width)] if width else [[]] * count


def _flat(tensor: Tensor) -> Sequence[Any]:
    """The elements in one row; tensors of two dimensions may come nested."""
    elements = tensor.elements or ()
    if not elements or not isinstance(elements[0], list):
        return elements
    width = math.prod(tensor.shape[1:])
    if any(not isinstance(row, list) or len(row) != width for row in elements):
        raise _disagree(tensor)
    return [element for row in elements for element in row]


def _strings(tensor: Tensor) -> list[bytes]:
    """Each element is 4 bytes of length, little endian, and its bytes."""
    raw, found, at = tensor.raw or b"", [], 0
    while at < len(raw) and len(found) <= MAX_TEXTS:
        if at + 4 > len(raw):
            raise _disagree(tensor)
        (size,) = struct.unpack_from("<I", raw, at)
        at += 4 + size
        if at > len(raw):
            raise _disagree(tensor)
        found.append(raw[at - size : at])
    return found


def _numbers(tensor: Tensor) -> list[int]:
    raw, item = tensor.raw or b"", _ITEMS[tensor.datatype]
    if len(raw) % item.itemsize:
        raise _disagree(tensor)
    numbers: list[int] = np.frombuffer(raw, item).tolist()
    return numbers


def _disagree(tensor: Tensor) -> InvalidRequest:
    return InvalidRequest(
        f"{tensor.field}.data: it does not hold the {math.prod(tensor.shape)} elements of its shape {tensor.shape}; "
        "correct shape or data"
    )
