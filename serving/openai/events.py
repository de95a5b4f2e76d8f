"""Server-sent events: a response that is sent while it comes to be."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import orjson

from serving.asgi import Send
from serving.failures import status_of
from serving.openai.form import error_body


@dataclass
class EventStream:
    """A response of server-sent events, each a JSON object; `[DONE]` is the last."""

    events: AsyncGenerator[dict[str, Any]]
    headers: list[tuple[bytes, bytes]]

    async def send(self, send: Send, *more: tuple[bytes, bytes]) -> None:
        """Send them as they come; the first decides whether this is an answer at all."""
        # Or a client who leaves while an event is sent would keep his place until the garbage is collected.
        async with contextlib.aclosing(self.events):
            first = await anext(self.events)
            await send({"type": "http.response.start", "status": 200, "headers": [*self.headers, *more]})
            await self._event(send, orjson.dumps(first))
            try:
                async for event in self.events:
                    await self._event(send, orjson.dumps(event))
            except Exception as error:
                # The status is sent: what went wrong can only be the last event.
                status, _, sentence = status_of(error)
                await self._event(send, orjson.dumps(error_body(status, sentence)))
            await self._event(send, b"[DONE]")
            await send({"type": "http.response.body", "body": b""})

    async def _event(self, send: Send, content: bytes) -> None:
        await send({"type": "http.response.body", "body": b"data: " + content + b"\n\n", "more_body": True})
