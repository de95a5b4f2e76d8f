"""A large JSON body, read in parts and beside the event loop.

The parser holds Python's lock from its beginning to its end, in whatever thread it runs: 85 ms for 32 MB of texts, and
seconds for as much of `[],`. So a large body is looked through first, a part at a time, for what no request has: too
many strings, lists or elements. Then its long strings are read one by one, and what is left, which is small, at once.
All of that happens in a thread that gives the lock back in between.
"""

import secrets
from collections.abc import Iterator
from typing import Any

import orjson

from serving.failures import InvalidRequest

# From here on; less is parsed in 5 ms, whatever it holds.
LARGE_JSON_BYTES = 64 << 10
# Looked through at a time: 1 ms.
PART_BYTES = 1 << 20
# What a request holds at most: 1,024 texts or lists of token ids beside names and parameters; and a thousand rows of a
# thousand token ids, whose parts are parsed in 40 ms.
MAX_STRINGS, MAX_CONTAINERS, MAX_ELEMENTS = 4096, 4096, 1 << 20
# Strings that are read one by one, and the longest of them: a text of 1 MB, every byte of it escaped.
LONG_STRING_BYTES, MAX_STRING_BYTES = 1024, 6_000_000


def loads(body: bytes) -> Any:
    """What a JSON text holds. Raises InvalidRequest for more than a request has, orjson.JSONDecodeError."""
    quotes = list(_quotes(body))
    if len(quotes) % 2:
        raise InvalidRequest("body: it is not JSON, a string has no end; send all of it")
    _check_structure(body, quotes)
    mark, parts, strings, at = secrets.token_hex(8), list[bytes](), list[bytes](), 0
    for begin, end in zip(quotes[::2], quotes[1::2], strict=True):
        if end - begin > LONG_STRING_BYTES:
            parts += [body[at : begin + 1], f"{mark}{len(strings)}".encode()]
            strings.append(body[begin : end + 1])
            at = end
    value = orjson.loads(b"".join([*parts, body[at:]]))
    return _filled(value, mark, strings) if strings else value


def _parts(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Places and bytes of parts, none of which ends between a backslash and what it escapes."""
    at = 0
    while at < len(body):
        end = min(at + PART_BYTES, len(body))
        part = body[at:end]
        if (len(part) - len(part.rstrip(b"\\"))) % 2:
            part = body[at : end + 1]
        yield at, part
        at += len(part)


def _quotes(body: bytes) -> Iterator[int]:
    """Places of the quotes that begin and end strings."""
    count = 0
    for at, part in _parts(body):
        if b"\\" in part:
            # Of the same length, so that places stay what they are.
            part = part.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        count += part.count(b'"')
        if count > 2 * MAX_STRINGS:
            raise InvalidRequest(
                f"body: it has more than {MAX_STRINGS:,} strings, and a request 1,024 texts; send several requests"
            )
        place = part.find(b'"')
        while place >= 0:
            yield at + place
            place = part.find(b'"', place + 1)


def _check_structure(body: bytes, quotes: list[int]) -> None:
    """Count lists, objects and elements outside of strings."""
    containers = elements = 0
    for begin, end in zip([-1, *quotes[1::2]], [*quotes[::2], len(body)], strict=True):
        for at in range(begin + 1, end, PART_BYTES):
            part = body[at : min(at + PART_BYTES, end)]
            containers += part.count(b"[") + part.count(b"{")
            elements += part.count(b",")
            if containers > MAX_CONTAINERS or elements > MAX_ELEMENTS:
                raise InvalidRequest(
                    f"body: it has more than {MAX_CONTAINERS:,} lists and objects, or {MAX_ELEMENTS:,} elements; "
                    "send several requests"
                )
    if any(end - begin > MAX_STRING_BYTES for begin, end in zip(quotes[::2], quotes[1::2], strict=True)):
        raise InvalidRequest("body: it has a string over the limit of a text, 1,000,000 bytes; shorten it")


def _filled(value: Any, mark: str, strings: list[bytes]) -> Any:
    """The value with its long strings in their places; not recursive, since JSON nests deeper than Python calls."""
    waiting: list[tuple[Any, str]] = [(value, "")] if isinstance(value, list | dict) else []
    while waiting:
        container, path = waiting.pop()
        for key, child in list(container.items() if isinstance(container, dict) else enumerate(container)):
            if isinstance(key, str) and key.startswith(mark):
                del container[key]
                key = _string(strings[int(key[len(mark) :])], path or "body")
                container[key] = child
            if isinstance(child, str) and child.startswith(mark):
                container[key] = _string(strings[int(child[len(mark) :])], _step(path, key))
            elif isinstance(child, list | dict):
                waiting.append((child, _step(path, key)))
    return value


def _step(path: str, key: object) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}"[:200] if path else str(key)[:200]


def _string(content: bytes, where: str) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{where}: it is no string of JSON in UTF-8 ({error}); correct it") from error
