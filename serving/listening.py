"""The REST door on a socket: uvicorn, with httptools and uvloop, started and stopped by the program."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fairlead.errors import ConfigError, FairleadError
from serving.asgi import ARRIVED, WATCHING

# Longer than the 60 s after which proxies let go of idle connections, or they race the server for them.
KEEP_ALIVE_SECONDS = 65
BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigError when the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--http_port: {address(host, port)} cannot be bound ({error}); choose another port, or --free-port"
        ) from error


def address(host: str, port: int) -> str:
    """Host and port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class OneWrite:
    """A transport that sends the head of an answer with the first part of its body.

    uvicorn writes them one after the other, and uvloop sends what is written at once: two calls of the kernel, a client
    that wakes twice, and between them a moment in which a server that is killed leaves half an answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, or hold a head until the next part comes or the loop turns."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._send_head)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Send what is held, and close."""
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP, which notes when a request's first byte was read, and calls those who watch for its own end.

    A request's task starts some requests later.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watching: set[Callable[[], None]] = set()

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self.transport: Any = OneWrite(transport, self.loop)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope.update({ARRIVED: time.perf_counter(), WATCHING: self._watching})  # type: ignore[typeddict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or was answered."""
        super().connection_lost(exc)
        for leave in tuple(self._watching):
            leave()


class RestServer(uvicorn.Server):
    """uvicorn's server, which leaves the signals to the program: there is a second door to close."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise FairleadError("serving: the REST server cannot start; see its log above") from error
        # Some releases of uvicorn return from a startup that failed.
        if self.started:
            self.answering.set()


def rest_server(app: Any, grace_seconds: float) -> RestServer:
    """The server of an ASGI application."""
    return RestServer(
        uvicorn.Config(
            app,
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(grace_seconds),
        )
    )


async def until_answering(rest: RestServer, serving: "asyncio.Task[None]") -> None:
    """Wait for the REST door to open. Raises what kept it shut."""
    answering = asyncio.create_task(rest.answering.wait())
    await asyncio.wait([serving, answering], return_when=asyncio.FIRST_COMPLETED)
    if not rest.answering.is_set():
        answering.cancel()
        await serving
        raise FairleadError("serving: the REST server ended before it answered; see its log above")
