"""Bytes on a socket that are no good HTTP: what comes back is no 200 and no 5xx, and the server lives."""

import random
import socket

from tests.serving.fuzz.tally import Tally

BODY = b'{"instances": ["my card"]}'
TARGET = b"/v1/models/support-topics:predict"
LINES = (
    b"GET", b"POST / HTTP/9.9", b"POST  /x HTTP/1.1", b"\x00\x01\x02", b"G\x00T / HTTP/1.1", b"POST " + b"/a" * 40_000,
    b"get / http/1.1", b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00", b"POST /\xff\xfe HTTP/1.1", b"X" * 70_000, b":",
)  # fmt: skip
HEADERS = (
    b"Content-Length: -1", b"Content-Length: 1e3", b"Content-Length: 99999999999999999999", b"Content-Length: x",
    b"Content-Length: 5\r\nContent-Length: 6", b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Transfer-Encoding: xyz", b"no colon", b": no name", b"A: \x00", b"A" * 70_000, b"Host: a\r\nHost: b",
    b" folded", b"A: b\r\n c: d",
    b"Content-Encoding: gzip", b"Expect: 200-ok", b"Connection: upgrade\r\nUpgrade: h2c", b"X-Request-Timeout-Ms: soon",
)  # fmt: skip
CHUNKS = (b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5\r\nab", b"1a\nxx", b"0\r\n\r\n", b"\r\n\r\n")


def run(base: str, number: int, seed: int, tally: Tally) -> None:
    """So many connections, each with one malformed request."""
    host, _, port = base.removeprefix("http://").rpartition(":")
    generator = random.Random(seed)
    kinds = (_line, _headers, _chunks, _short, _random)
    for index in range(number):
        kind = kinds[index % len(kinds)]
        content = kind(generator)
        status = _send((host, int(port)), content)
        tally.add(f"HTTP, {kind.__name__.strip('_')}", status)
        if status[:1] in "25":
            tally.fail(f"HTTP, {kind.__name__.strip('_')}", status, content)


def _line(generator: random.Random) -> bytes:
    """A first line that is none."""
    return generator.choice(LINES) + b"\r\nHost: a\r\n\r\n"


def _headers(generator: random.Random) -> bytes:
    """Headers that are none, or contradict each other."""
    header = generator.choice(HEADERS)
    return b"POST " + TARGET + b" HTTP/1.1\r\nHost: a\r\n" + header + b"\r\n\r\n[]"


def _chunks(generator: random.Random) -> bytes:
    """A body in chunks that are none."""
    head = b"POST " + TARGET + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + generator.choice(CHUNKS) + generator.randbytes(generator.randint(0, 20))


def _short(generator: random.Random) -> bytes:
    """A good request, cut short of its end."""
    head = b"POST " + TARGET + b" HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    whole = head + BODY
    return whole[: generator.randrange(1, len(whole))]


def _random(generator: random.Random) -> bytes:
    return generator.randbytes(generator.randint(1, 400))


def _send(address: tuple[str, int], content: bytes) -> str:
    """Send, say that no more comes, and read the status; `closed` where the connection ended without one."""
    with socket.create_connection(address, timeout=60) as client:
        received = b""
        try:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(65536):
                received += part
        except (ConnectionError, OSError):
            pass
    words = received.split(b" ", 2)
    return words[1].decode() if received.startswith(b"HTTP/1.") and len(words) > 1 else "closed"
