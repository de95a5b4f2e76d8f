"""A load generator that is not the bottleneck: HTTP/1.1 with keep-alive over one epoll loop in one thread.

Requests are bytes made beforehand and answers are kept as bytes, to be read when the turn is over: a request costs
20 to 40 microseconds of CPU here, where a client library takes as much as a good server. What the generator itself
used of the CPU is part of the result. Only loopback addresses are accepted.
"""

import gc
import heapq
import itertools
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

HEADER_END = b"\r\n\r\n"
# What a well-behaved client waits after a refusal that names no time, and at most.
BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS = 0.05, 1.0
REFUSALS = (429, 503)


@dataclass(frozen=True)
class Address:
    """Where a server listens, and its paths."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not self.host.startswith("127."):
            raise ValueError(f"{self.host}: load goes to this machine only")

    def post(self, path: str, body: bytes) -> bytes:
        """A request with a JSON body."""
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def get(self, path: str) -> bytes:
        """A request without a body."""
        return f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode()


@dataclass(frozen=True)
class Reply:
    """One answer."""

    index: int
    """Which of the requests."""
    status: int
    """Of HTTP; 0 when the connection ended without an answer."""
    seconds: float
    """From the first byte sent to the last byte read; in an open loop from the moment that it was due."""
    finished: float
    """When, in seconds since the turn began."""
    body: bytes


@dataclass
class Turn:
    """What one turn of load gave."""

    seconds: float
    cpu_seconds: float
    """Of this process, over the turn."""
    replies: list[Reply] = field(default_factory=list)
    """Those that ended within the turn, warming left out."""
    probes: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each health request, by path."""


class Connection:
    """One client: at most one request is under way."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.socket = socket.create_connection((address.host, address.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.index, self.due = -1, 0.0
        self._received = bytearray()
        self._end = -1

    def send(self, index: int, request: bytes, due: float) -> None:
        """Send a request, which fits the socket's buffer or is waited for."""
        self.index, self.due = index, due
        self._received.clear()
        self._end = -1
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes, bytes] | None:
        """Status, headers and body when the answer is complete; status 0 when the connection ended before."""
        try:
            chunk = self.socket.recv(262144)
        except ConnectionError:
            chunk = b""
        if not chunk:
            return 0, b"", b""
        self._received += chunk
        if self._end < 0:
            self._find_end()
        if self._end < 0 or len(self._received) < self._end:
            return None
        head, body = bytes(self._received).split(HEADER_END, 1)
        return int(head[9:12]), head.lower(), body

    def _find_end(self) -> None:
        at = self._received.find(HEADER_END)
        if at < 0:
            return
        headers = bytes(self._received[:at]).lower()
        start = headers.find(b"content-length:")
        if start < 0:
            raise ValueError(f"an answer without Content-Length: {headers!r}")
        self._end = at + len(HEADER_END) + int(headers[start + 15 :].split(b"\r\n", 1)[0])


class Load:
    """One turn against one server."""

    def __init__(self, address: Address, requests: Sequence[bytes], order: Iterator[int]) -> None:
        """`order` gives the index of each next request, without end."""
        self.address, self.requests, self.order = address, requests, order
        self._selector = selectors.EpollSelector()
        self._turn = Turn(0.0, 0.0)
        self._waking: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = itertools.count()
        self._started, self._measured_from, self._ends = 0.0, 0.0, 0.0

    def closed(self, clients: int, seconds: float, warming: float, probes: Sequence[str] = ()) -> Turn:
        """`clients` that send their next request when they have the answer to the last, and health probes beside."""

        def begin(now: float) -> None:
            for _ in range(clients):
                self._ask(self._connect(self._answered), now)
            for number, path in enumerate(probes):
                self._turn.probes[path] = []
                self._wake(now + 0.02 * number, self._prober(path))

        return self._run(begin, seconds, warming)

    def opened(self, rate: float, seconds: float, warming: float, gaps: Iterator[float]) -> Turn:
        """`rate` requests a second whatever the server does; `gaps` are of mean 1 and space them out."""
        idle: list[Connection] = []

        def back(connection: Connection, reply: tuple[int, bytes, bytes], now: float) -> None:
            self._record(connection, reply, now)
            idle.append(connection if reply[0] else self._replace(connection, back))

        def arrive(due: float) -> None:
            connection = idle.pop() if idle else self._connect(back)
            self._send(connection, next(self.order), due)
            self._wake(due + next(gaps) / rate, arrive)

        return self._run(arrive, seconds, warming)

    def _run(self, begin: Callable[[float], None], seconds: float, warming: float) -> Turn:
        gc.collect()
        gc.disable()
        try:
            self._started = time.perf_counter()
            self._measured_from = self._started + warming
            self._ends = self._measured_from + seconds
            cpu = time.process_time()
            begin(self._started)
            self._loop()
            share = time.process_time() - cpu
        finally:
            gc.enable()
            for key in list(self._selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
            self._selector.close()
        self._turn.seconds, self._turn.cpu_seconds = seconds, share * seconds / (seconds + warming)
        return self._turn

    def _loop(self) -> None:
        while (now := time.perf_counter()) < self._ends:
            while self._waking and self._waking[0][0] <= now:
                due, _, call = heapq.heappop(self._waking)
                call(due)
            until = min(self._ends, self._waking[0][0]) if self._waking else self._ends
            for key, _ in self._selector.select(max(0.0, until - time.perf_counter())):
                connection, done = key.data
                reply = connection.receive()
                if reply is not None:
                    done(connection, reply, time.perf_counter())

    def _wake(self, at: float, call: Callable[[float], None]) -> None:
        heapq.heappush(self._waking, (at, next(self._count), call))

    def _connect(self, done: Callable[[Connection, tuple[int, bytes, bytes], float], None]) -> Connection:
        connection = Connection(self.address)
        self._selector.register(connection.socket, selectors.EVENT_READ, (connection, done))
        return connection

    def _replace(
        self, ended: Connection, done: Callable[[Connection, tuple[int, bytes, bytes], float], None]
    ) -> Connection:
        self._selector.unregister(ended.socket)
        ended.socket.close()
        return self._connect(done)

    def _send(self, connection: Connection, index: int, due: float) -> None:
        try:
            connection.send(index, self.requests[index], due)
        except ConnectionError:
            # The server's end shows up as an answer of status 0.
            return

    def _ask(self, connection: Connection, now: float) -> None:
        self._send(connection, next(self.order), now)

    def _answered(self, connection: Connection, reply: tuple[int, bytes, bytes], now: float) -> None:
        """Ask again: at once, or after the time that a refusal names."""
        self._record(connection, reply, now)
        status, headers, _ = reply
        if status == 0 or b"\r\nconnection: close" in headers:
            connection = self._replace(connection, self._answered)
        if status in REFUSALS or status == 0:
            self._wake(now + _back_off(headers), lambda due: self._ask(connection, due))
        else:
            self._ask(connection, now)

    def _record(self, connection: Connection, reply: tuple[int, bytes, bytes], now: float) -> None:
        if now >= self._measured_from:
            self._turn.replies.append(
                Reply(connection.index, reply[0], now - connection.due, now - self._measured_from, reply[2])
            )

    def _prober(self, path: str) -> Callable[[float], None]:
        """Ask for `path` 25 times a second, each time when the last was answered."""
        request, taken = self.address.get(path), self._turn.probes

        def answered(connection: Connection, reply: tuple[int, bytes, bytes], now: float) -> None:
            if now >= self._measured_from:
                taken[path].append(now - connection.due if reply[0] == 200 else float("inf"))
            self._wake(max(now, connection.due + 0.04), lambda due: connection.send(-1, request, due))

        connection = self._connect(answered)
        return lambda due: connection.send(-1, request, due)


def _back_off(headers: bytes) -> float:
    start = headers.find(b"retry-after:")
    if start < 0:
        return BACK_OFF_SECONDS
    named = headers[start + 12 :].split(b"\r\n", 1)[0].strip()
    return min(float(named) if named.isdigit() else BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS)
