"""A JSON body, read; what cannot be read is named as far as it can be."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from serving import jsonparts
from serving.asgi import Request
from serving.failures import InvalidRequest
from serving.questions import kind
from serving.reading import LARGE_BYTES, check_waiting, read_sized

Result = TypeVar("Result")


async def read_body(request: Request, read: Callable[[bytes], Result]) -> Result:
    """What `read` makes of a request's body; of a large one beside the event loop, one after the other.

    Raises Overloaded when many are read already, and what `read` raises.
    """
    check_waiting(request.num_bytes)
    parts = await request.body()
    if len(parts) == 1:
        return await read_sized(len(parts[0]), lambda: read(parts[0]))
    # Putting 32 MB together takes 10 ms.
    return await read_sized(sum(map(len, parts)), lambda: read(b"".join(parts)))


def read_object(body: bytes, example: str) -> dict[str, Any]:
    """The object that a body is. Raises InvalidRequest, which shows the `example`."""
    try:
        value = orjson.loads(body) if len(body) < LARGE_BYTES else jsonparts.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(_reason(body, error, example)) from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"body: an object is expected, not {kind(value)}; send {example}")
    return value


def _reason(body: bytes, error: orjson.JSONDecodeError, example: str) -> str:
    # Another parser, which holds the lock for longer: where a large body's is, is known already.
    small = len(body) < LARGE_BYTES
    if small and "surrogate" in str(error) and (where := _surrogate_in(body)):
        return f"{where}: it is not UTF-8 (a lone surrogate); send whole characters"
    return f"body: it is not JSON ({error}); send {example}"


def _surrogate_in(body: bytes) -> str:
    """Where the first string is that no UTF-8 can hold; empty when it is not found."""
    try:
        return _path_of_surrogate(json.loads(body), "")
    except (ValueError, RecursionError):
        return ""


def _path_of_surrogate(value: Any, path: str) -> str:
    if isinstance(value, str):
        return path if any("\ud800" <= character <= "\udfff" for character in value) else ""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        step = f"[{name}]" if isinstance(name, int) else f".{name}" if path else str(name)
        if found := _path_of_surrogate(child, f"{path}{step}"):
            return found.encode("ascii", "replace").decode()
    return ""
