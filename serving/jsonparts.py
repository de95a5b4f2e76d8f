"""A large JSON body, read in parts and beside the event loop.

The parser holds Python's lock from its beginning to its end, in whatever thread it runs: 85 ms for 32 MB of texts, and
seconds for as much of `[],`. So a large body is looked through first, a part at a time, for what no request has: too
many strings, lists or elements. Then its long strings are read one by one, long rows of numbers (a million take 50 ms,
or 105 with 30 digits each) in pieces, and what is left, which is small, at once. All of that happens in a thread that
gives the lock back in between.
"""

import secrets
from collections.abc import Iterator
from typing import Any

import orjson

from serving.failures import InvalidRequest

# Looked through at a time: 1 ms.
PART_BYTES = 1 << 20
# What a request holds at most: 1,024 texts or lists of token ids beside names and parameters; and a thousand rows of a
# thousand token ids.
MAX_STRINGS, MAX_CONTAINERS, MAX_ELEMENTS = 4096, 4096, 1 << 20
# Strings that are read one by one, and the longest of them: a text of 1 MB, every byte of it escaped.
LONG_STRING_BYTES, MAX_STRING_BYTES = 1024, 6_000_000
# Numbers between two brackets or strings are a row. One of more bytes than the first figure is read by itself, so that
# 4,096 shorter ones are parsed in 12 ms, and in pieces of the second: 1 to 3 ms. What has no comma for so long is no
# number.
LONG_ROW_BYTES, PIECE_BYTES = 128, 32 << 10

# Where something long begins and ends.
Long = tuple[int, int]


def loads(body: bytes) -> Any:
    """What a JSON text holds. Raises InvalidRequest for more than a request has, orjson.JSONDecodeError."""
    quotes = list(_quotes(body))
    if len(quotes) % 2:
        raise InvalidRequest("body: it is not JSON, a string has no end; send all of it")
    _check_structure(body, quotes)
    mark, parts, long, at = secrets.token_hex(8), list[bytes](), list[Long](), 0
    for begin, end in _long(body, quotes):
        parts += [body[at:begin], f'"{mark}{len(long)}"'.encode()]
        long.append((begin, end))
        at = end
    value = orjson.loads(b"".join([*parts, body[at:]]))
    return _filled(value, mark, body, long) if long else value


def _long(body: bytes, quotes: list[int]) -> Iterator[Long]:
    """Where long strings, quotes included, and long rows of numbers begin and end, in order."""
    for end_before, begin, end in zip([-1, *quotes[1::2]], quotes[::2], quotes[1::2], strict=False):
        yield from _rows(body, end_before + 1, begin)
        if end - begin > LONG_STRING_BYTES:
            yield begin, end + 1
    yield from _rows(body, (quotes or [-1])[-1] + 1, len(body))


def _rows(body: bytes, begin: int, end: int) -> Iterator[Long]:
    """The same of rows of numbers between two strings; their first and last number stay, with what is around them."""
    if end - begin <= LONG_ROW_BYTES:
        return
    brackets = sorted(place for one in b"[]{}" for place in _places(body, bytes([one]), begin, end))
    for left, right in zip([begin, *brackets], [*brackets, end], strict=True):
        if right - left > LONG_ROW_BYTES:
            first, last = body.find(b",", left, right) + 1, body.rfind(b",", left, right)
            if max(first - left, right - last if first else right - left) > PIECE_BYTES:
                raise _no_number()
            if last - first > LONG_ROW_BYTES:
                yield first, last


def _places(body: bytes, what: bytes, begin: int, end: int) -> Iterator[int]:
    place = body.find(what, begin, end)
    while place >= 0:
        yield place
        place = body.find(what, place + 1, end)


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
        yield from (at + place for place in _places(part, b'"', 0, len(part)))


def _check_structure(body: bytes, quotes: list[int]) -> None:
    """Count lists, objects and elements outside of strings."""
    containers = ends = elements = 0
    for begin, end in zip([-1, *quotes[1::2]], [*quotes[::2], len(body)], strict=True):
        for at in range(begin + 1, end, PART_BYTES):
            part = body[at : min(at + PART_BYTES, end)]
            containers += part.count(b"[") + part.count(b"{")
            ends += part.count(b"]") + part.count(b"}")
            elements += part.count(b",")
            if max(containers, ends) > MAX_CONTAINERS or elements > MAX_ELEMENTS:
                raise InvalidRequest(
                    f"body: it has more than {MAX_CONTAINERS:,} lists and objects, or {MAX_ELEMENTS:,} elements; "
                    "send several requests"
                )
    if any(end - begin > MAX_STRING_BYTES for begin, end in zip(quotes[::2], quotes[1::2], strict=True)):
        raise InvalidRequest("body: it has a string over the limit of a text, 1,000,000 bytes; shorten it")


def _filled(value: Any, mark: str, body: bytes, long: list[Long]) -> Any:
    """The value with what was long in its places; not recursive, since JSON nests deeper than Python calls."""
    waiting: list[tuple[Any, str]] = [(value, "")] if isinstance(value, list | dict) else []
    while waiting:
        container, path = waiting.pop()
        rows: list[tuple[int, list[Any]]] = []
        for key, child in list(container.items() if isinstance(container, dict) else enumerate(container)):
            if isinstance(key, str) and key.startswith(mark):
                del container[key]
                key = _string(body, long[int(key[len(mark) :])], path or "body")
                container[key] = child
            if isinstance(child, str) and child.startswith(mark):
                begin, end = long[int(child[len(mark) :])]
                if body[begin : begin + 1] == b'"':
                    container[key] = _string(body, (begin, end), _step(path, key))
                else:
                    rows.append((key, _numbers(body, begin, end)))
            elif isinstance(child, list | dict):
                waiting.append((child, _step(path, key)))
        # From the end, so that places stay what they are.
        for place, numbers in reversed(rows):
            container[place : place + 1] = numbers
    return value


def _numbers(body: bytes, begin: int, end: int) -> list[Any]:
    """A row of numbers, read in pieces that end at commas."""
    found: list[Any] = []
    while begin < end:
        cut = end if end - begin <= PIECE_BYTES else body.rfind(b",", begin, begin + PIECE_BYTES)
        if cut < 0:
            raise _no_number()
        numbers = orjson.loads(b"[%b]" % body[begin:cut])
        if not numbers or cut == end - 1:
            raise InvalidRequest("body: it is not JSON, nothing stands between two commas; send an element")
        found += numbers
        begin = cut + 1
    return found


def _no_number() -> InvalidRequest:
    return InvalidRequest(
        f"body: it is not JSON as requests have it, {PIECE_BYTES:,} bytes have no comma, bracket or string; correct it"
    )


def _step(path: str, key: object) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}"[:200] if path else str(key)[:200]


def _string(body: bytes, place: Long, where: str) -> Any:
    try:
        return orjson.loads(body[slice(*place)])
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{where}: it is no string of JSON in UTF-8 ({error}); correct it") from error
