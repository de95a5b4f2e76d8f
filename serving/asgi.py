"""The least of HTTP that the REST door needs, straight on ASGI: requests, responses, routes.

A web framework's routing, dependency injection and response classes cost more than a prediction's whole way
through the door; see docs/decisions/016.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from serving.failures import BodyTooSlow, InvalidRequest, TooLarge, UnreadableCoding

# 1,024 texts of 32 KB. A body is held in memory several times over while it is read.
MAX_BODY_BYTES = 32 << 20
# The library puts a message together in the event loop, 32 MB in 40 ms. kserve takes 8 MiB.
MAX_MESSAGE_BYTES = 16 << 20
# A body that stops on its way would hold its place for ever.
BODY_SECONDS = 30.0
# Milliseconds that the caller will wait for the answer.
TIMEOUT_HEADER = b"x-request-timeout-ms"
MAX_TIMEOUT_MS = 3_600_000
# Where a scope has the time.perf_counter() of its first byte; ASGI has no place for it.
ARRIVED = "fairlead.arrived"
# Where a scope has a set of functions that are called when its connection ends. Waiting for the message that ASGI has
# for that takes a task of its own for each request.
WATCHING = "fairlead.watching"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class ClientLeft(Exception):
    """The connection closed before the request was answered."""


@dataclass(slots=True)
class Request:
    """One request."""

    scope: Scope
    receive: Receive
    parts: dict[str, str]
    """What stands in the path where the route has a name in braces."""
    left: bool = False
    """Whether the client closed the connection before it was answered."""
    is_read: bool = False
    """Whether the body has come whole."""
    _headers: dict[bytes, bytes] = field(init=False)
    _leave: Callable[[], None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        # Of a header that comes twice the first counts.
        self._headers = dict(reversed(self.scope["headers"]))

    def header(self, name: bytes) -> bytes | None:
        """A header's value, by its name in lower case."""
        return self._headers.get(name)

    def header_text(self, name: str) -> str | None:
        """The same as text."""
        value = self.header(name.encode())
        return None if value is None else value.decode("latin-1")

    @property
    def arrived(self) -> float:
        """When its first byte was read from the socket, by time.perf_counter; now where the server does not say."""
        return float(self.scope.get(ARRIVED) or time.perf_counter())

    @property
    def num_bytes(self) -> int:
        """Length of the body, as the client says; 0 where it says nothing."""
        length = self.header(b"content-length")
        return int(length) if length and length.isdigit() and len(length) < 20 else 0

    @property
    def deadline_seconds(self) -> float | None:
        """How long the caller waits for the answer. Raises InvalidRequest."""
        value = self.header(TIMEOUT_HEADER)
        if value is None:
            return None
        milliseconds = int(value) if value.isdigit() and len(value) < 10 else 0
        if not 1 <= milliseconds <= MAX_TIMEOUT_MS:
            raise InvalidRequest(
                f"{TIMEOUT_HEADER.decode()}: {value.decode('latin-1')[:40]!r} is no number of milliseconds "
                f"from 1 to {MAX_TIMEOUT_MS:,}; correct it"
            )
        return milliseconds / 1000

    async def body(self) -> list[bytes]:
        """The whole body as it came, one part at least.

        Raises TooLarge before more than MAX_BODY_BYTES are held, ClientLeft when it is cut. From then on the task that
        answers is cancelled when the client leaves.
        """
        body = await self._read_body()
        self.is_read = True
        self._watch()
        return body

    def _watch(self) -> None:
        """Cancel this task when the connection ends."""
        answering, watching = asyncio.current_task(), self.scope.get(WATCHING)
        if answering is None or watching is None:
            return

        def leave() -> None:
            self.left = True
            answering.cancel()

        self._leave = leave
        watching.add(leave)

    def unwatch(self) -> None:
        """The request is answered: how its connection ends does not matter to it any more."""
        if self._leave is not None:
            self.scope[WATCHING].discard(self._leave)

    async def _read_body(self) -> list[bytes]:
        self._check_headers()
        message = await self.receive()
        # Nearly every body comes whole: only others are worth a clock.
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            _check_size(len(body))
            return [body]
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._rest_of_body(message)
        except TimeoutError as error:
            raise BodyTooSlow(f"body: it did not arrive within {BODY_SECONDS:.0f} s; send it at once") from error

    def _check_headers(self) -> None:
        coding = self.header(b"content-encoding")
        if coding and coding.lower() != b"identity":
            shown = coding.decode("latin-1")[:40]
            raise UnreadableCoding(f"content-encoding: {shown!r} is not read here; send the body as it is")
        _check_size(self.num_bytes)

    async def _rest_of_body(self, message: dict[str, Any]) -> list[bytes]:
        chunks, received = list[bytes](), 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunks.append(message.get("body", b""))
            received += len(chunks[-1])
            _check_size(received)
            if not message.get("more_body"):
                return chunks
            message = await self.receive()


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_BODY_BYTES:
        raise TooLarge(f"body: it is over the limit of {MAX_BODY_BYTES:,} bytes; send several requests")


JSON_TYPE = (b"content-type", b"application/json")


@dataclass(slots=True)
class Response:
    """One response."""

    body: bytes
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [JSON_TYPE])

    async def send(self, send: Send, *more: tuple[bytes, bytes]) -> None:
        """Send it."""
        headers = [(b"content-length", b"%d" % len(self.body)), *self.headers, *more]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_response(value: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> Response:
    """A response of JSON."""
    return Response(orjson.dumps(value), status, [JSON_TYPE, *headers])


Handler = Callable[[Request], Awaitable[Response]]


class NoRoute(InvalidRequest):
    """There is nothing at this path, or not with this method."""

    def __init__(self, message: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


# Keys of a node of the routes that no segment of a path, being text, can be.
_ANYTHING, _METHODS = 0, 1


class Routes:
    """Handlers by path and method. A segment in braces takes anything; one may end in a `:verb`, as V1 has it."""

    def __init__(self) -> None:
        self._root: dict[str | int, Any] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Serve `method` at `path`."""
        node, names = self._root, []
        for segment in _segments(path):
            if segment.startswith("{"):
                names.append(segment[1:-1])
            node = node.setdefault(_ANYTHING if segment.startswith("{") else segment, {})
        node.setdefault(_METHODS, {})[method] = (handler, names)

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler of a request and the named parts of its path. Raises NoRoute."""
        node, values = self._root, []
        for segment in _segments(path):
            following = node.get(segment)
            if following is None:
                following = node.get(_ANYTHING, {})
                values.append(segment)
            node = following
        methods = node.get(_METHODS, {})
        if method not in methods:
            reason = "this method is not for this path" if methods else "there is nothing at this path"
            raise NoRoute(f"{method} {path[:200]}: {reason}; see the Open Inference Protocol", tuple(methods))
        handler, names = methods[method]
        return handler, dict(zip(names, values, strict=True))


def _segments(path: str) -> list[str]:
    """The parts of a path, the verb of `model:verb` being one of its own."""
    segments = path.split("/")[1:]
    last, colon, verb = segments[-1].rpartition(":") if segments else ("", "", "")
    return [*segments[:-1], last, f":{verb}"] if colon else segments
