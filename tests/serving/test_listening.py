"""How answers leave the REST door's sockets."""

import asyncio
from typing import Any

from serving.listening import OneWrite

HEAD, BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", b"body"


class Sent:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(data)

    def close(self) -> None:
        self.parts.append(b"closed")


def test_head_and_body_leave_together_and_a_head_alone_when_the_loop_turns() -> None:
    async def ask() -> None:
        sent: Any = Sent()
        transport = OneWrite(sent, asyncio.get_running_loop())
        transport.write(HEAD)
        transport.write(BODY)
        assert sent.parts == [HEAD + BODY]
        await asyncio.sleep(0)
        transport.write(HEAD)
        assert sent.parts == [HEAD + BODY]
        await asyncio.sleep(0)
        transport.write(BODY)
        assert sent.parts == [HEAD + BODY, HEAD, BODY]
        transport.write(HEAD)
        transport.close()
        assert sent.parts[3:] == [HEAD, b"closed"]

    asyncio.run(ask())
