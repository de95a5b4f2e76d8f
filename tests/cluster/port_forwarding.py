"""The server's side of a port forward over a WebSocket, subprotocol v4.channel.k8s.io.

Frames are binary, their first byte a channel: 0 is data, 1 errors. Each begins with two bytes that say its port, little
endian. Sources: RFC 6455; Kubernetes, kubelet/pkg/cri/streaming/portforward/websocket.go.
"""

import base64
import hashlib
import socket
import struct
import threading
from contextlib import suppress
from typing import BinaryIO

PROTOCOL = "v4.channel.k8s.io"
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, CLOSE = 2, 8
DATA, ERROR = 0, 1


def accept_key(key: str) -> str:
    """What the server answers to `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


def forward(connection: socket.socket, reader: BinaryIO, port: int, local_port: int | None) -> None:
    """Serve a forwarded port, which is `local_port` here, until either side ends it; None is where nobody listens."""
    for channel in (DATA, ERROR):
        _send(connection, BINARY, bytes([channel]) + struct.pack("<H", port))
    try:
        there = socket.create_connection(("127.0.0.1", local_port or 0))
    except OSError as error:
        _send(connection, BINARY, bytes([ERROR]) + f"error forwarding port {port}: {error}".encode())
        _send(connection, CLOSE, b"")
        return
    back = threading.Thread(target=_to_client, args=(there, connection), daemon=True)
    back.start()
    with suppress(OSError, EOFError):
        while (frame := _receive(reader))[0] != CLOSE:
            if frame[0] == BINARY and frame[1][0] == DATA:
                there.sendall(frame[1][1:])
    with suppress(OSError):
        there.shutdown(socket.SHUT_RDWR)
    back.join()
    there.close()


def _to_client(there: socket.socket, connection: socket.socket) -> None:
    with suppress(OSError):
        while content := there.recv(1 << 16):
            _send(connection, BINARY, bytes([DATA]) + content)
    with suppress(OSError):
        _send(connection, CLOSE, b"")
        connection.shutdown(socket.SHUT_RDWR)


def _send(connection: socket.socket, opcode: int, content: bytes) -> None:
    size = len(content)
    length = bytes([size]) if size < 126 else struct.pack(">BH", 126, size) if size < 1 << 16 else None
    head = bytes([0x80 | opcode]) + (length or struct.pack(">BQ", 127, size))
    connection.sendall(head + content)


def _receive(reader: BinaryIO) -> tuple[int, bytes]:
    first, second = _exactly(reader, 2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", _exactly(reader, 2))
    elif size == 127:
        (size,) = struct.unpack(">Q", _exactly(reader, 8))
    mask = _exactly(reader, 4)
    content = bytearray(_exactly(reader, size))
    for index in range(size):
        content[index] ^= mask[index % 4]
    return first & 0x0F, bytes(content)


def _exactly(reader: BinaryIO, size: int) -> bytes:
    content = reader.read(size)
    if len(content) < size:
        raise EOFError
    return content
