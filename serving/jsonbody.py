"""A JSON body, read; what cannot be read is named as far as it can be."""

import json
from typing import Any

import orjson

from serving.failures import InvalidRequest
from serving.questions import kind


def read_object(body: bytes, example: str) -> dict[str, Any]:
    """The object that a body is. Raises InvalidRequest, which shows the `example`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(_reason(body, error, example)) from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"body: an object is expected, not {kind(value)}; send {example}")
    return value


def _reason(body: bytes, error: orjson.JSONDecodeError, example: str) -> str:
    if "surrogate" in str(error) and (where := _surrogate_in(body)):
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
