"""A large message of gRPC, looked through before it is parsed, without a copy of it.

The parser holds Python's lock to its end and makes an object of 80 bytes or more for each message inside: 16 million
empty tensors are 32 MB on the wire. So fields and packed numbers are counted first, in steps that give the lock back.
Protocol Buffers' wire format: https://protobuf.dev/programming-guides/encoding/
"""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from serving.failures import InvalidRequest
from serving.jsonparts import MAX_ELEMENTS, PART_BYTES

# 1,024 texts or lists of token ids beside names, shapes and parameters.
MAX_FIELDS = 8192
_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5
# A number of a packed field ends with the byte whose highest bit is not set.
_GOES_ON = bytes(range(0x80, 0x100))
_WIDTHS = {FieldDescriptor.TYPE_FLOAT: 4, FieldDescriptor.TYPE_DOUBLE: 8}


def check_message(content: bytes, message: Any) -> None:
    """Raises InvalidRequest for more fields or numbers than any request has; the parser says what is malformed."""
    waiting, fields, elements = [(message.DESCRIPTOR, 0, len(content))], 0, 0
    while waiting:
        descriptor, at, end = waiting.pop()
        while at < end:
            fields += 1
            key, at = _varint(content, at, end)
            field = descriptor.fields_by_number.get(key >> 3)
            begin, at = _value(content, key & 7, at, end)
            if key & 7 == _SIZED and field is not None and field.message_type is not None:
                waiting.append((field.message_type, begin, min(at, end)))
            elif key & 7 == _SIZED and field is not None and field.type not in (field.TYPE_BYTES, field.TYPE_STRING):
                elements += _packed(content, begin, min(at, end), _WIDTHS.get(field.type, 0))
            if fields > MAX_FIELDS or elements > MAX_ELEMENTS:
                raise InvalidRequest(
                    f"request: it has more than {MAX_FIELDS:,} fields, or {MAX_ELEMENTS:,} elements, and a request "
                    "1,024 texts; send several requests"
                )


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value, at


def _value(content: bytes, kind: int, at: int, end: int) -> tuple[int, int]:
    """Where the value of a field begins and ends."""
    if kind == _VARINT:
        return at, _varint(content, at, end)[1]
    if kind == _SIZED:
        size, at = _varint(content, at, end)
        return at, at + size
    # Groups, which no field here is, have their fields counted as the message's own.
    return at, at + {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)


def _packed(content: bytes, begin: int, end: int, width: int) -> int:
    """Numbers of a packed field."""
    if width:
        return (end - begin) // width
    return sum(
        len(content[at : min(at + PART_BYTES, end)].translate(None, _GOES_ON)) for at in range(begin, end, PART_BYTES)
    )
