"""The completions of OpenAI's API (`POST /v1/completions`), whole or as server-sent events.

KServe has it at `/openai/v1/completions`. Format: https://platform.openai.com/docs/api-reference/completions
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from fairlead.inference.config import GenerationConfig
from fairlead.inference.generation import Continuation
from fairlead.inference.writing import ServedWriter
from serving.answers import Stamp
from serving.asgi import JSON_TYPE, Handler, Request, Response, Send, json_response
from serving.desk import Desk
from serving.exchange import Exchange
from serving.failures import InvalidRequest, status_of
from serving.jsonbody import read_object
from serving.questions import MAX_PROMPTS, MAX_TEXT_BYTES, kind

EXAMPLE = '{"model": "name", "prompt": "Once upon"}'
# OpenAI's default.
MAX_TOKENS = 16
# Its name for each of ours.
SETTINGS = {"max_tokens": "max_new_tokens"} | {name: name for name in ("temperature", "top_p", "top_k", "seed", "stop")}
# What changes nothing at these values.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "logprobs": (None, 0),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "suffix": (None, ""),
    "logit_bias": (None, {}),
}
IGNORED = ("model", "prompt", "stream", "stream_options", "user")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
REASONS = {"stop": "stop", "end": "stop", "length": "length"}


@dataclass(frozen=True)
class Wish:
    """One valid request."""

    model: str
    prompts: list[str]
    config: GenerationConfig
    stream: bool
    usage: bool
    """Whether a stream ends with the counts of tokens."""


def read(body: dict[str, Any]) -> Wish:
    """Read a request. Raises InvalidRequest or ConfigError, which names the field."""
    for name, value in body.items():
        if name in NEUTRAL and value not in NEUTRAL[name]:
            raise InvalidRequest(f"{name}: {value!r:.40} is not done here; leave it away")
        if name not in (*NEUTRAL, *SETTINGS, *IGNORED):
            raise InvalidRequest(f"{name}: there is no such field; see the completions of OpenAI's API")
    if not isinstance(body.get("model"), str):
        raise InvalidRequest(f"model: a name is expected, not {kind(body.get('model'))}; send {EXAMPLE}")
    stream, options = body.get("stream") or False, body.get("stream_options") or {}
    if not isinstance(stream, bool) or not isinstance(options, dict):
        raise InvalidRequest("stream: true or false is expected, and an object as stream_options; correct them")
    prompts = _prompts(body.get("prompt"))
    return Wish(body["model"], prompts, _config(body), stream, bool(options.get("include_usage")))


def _prompts(value: object) -> list[str]:
    prompts = value if isinstance(value, list) else [value]
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise InvalidRequest(f"prompt: {len(prompts)} prompts; send 1 to {MAX_PROMPTS}")
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt or len(prompt.encode()) > MAX_TEXT_BYTES:
            raise InvalidRequest(
                f"prompt: a text of 1 to {MAX_TEXT_BYTES:,} bytes is expected, not {kind(prompt)}; "
                "token ids are not taken"
            )
    return prompts


def _config(body: dict[str, Any]) -> GenerationConfig:
    given = {ours: body[theirs] for theirs, ours in SETTINGS.items() if body.get(theirs) is not None}
    if isinstance(given.get("stop"), str):
        given["stop"] = [given["stop"]]
    return GenerationConfig.parse({"max_new_tokens": MAX_TOKENS} | given, where="body")


class CompletionsDoor:
    """The handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Sequence[tuple[str, str, Handler]]:
        """By method and path."""
        return [
            (method, f"{prefix}/v1/{path}", handler)
            for prefix in ("", "/openai")
            for method, path, handler in (("POST", "completions", self.complete),)
        ] + [("GET", "/openai/v1/models", self.models)]

    async def models(self, _: Request) -> Response:
        """The language models."""
        models = self._desk.models()
        names = [name for name in models.names() if isinstance(models.get(name), ServedWriter)]
        data = [{"id": name, "object": "model", "owned_by": "fairlead"} for name in names]
        return json_response({"object": "list", "data": data})

    async def complete(self, request: Request) -> Any:
        """Continue prompts."""
        exchange = Exchange("openai", "", request.header_text)
        try:
            wish = read(read_object(await request.body(), EXAMPLE))
        except Exception:
            with self._desk.told(exchange):
                raise
        exchange.model = wish.model
        if wish.stream:
            return self._streamed(wish, exchange)
        with self._desk.told(exchange):
            served, stamp = self._find(wish, exchange)
            answers = await served.write(wish.prompts, wish.config)
        body = _chunk(stamp, [_choice(index, one.text, one) for index, one in enumerate(answers)])
        return Response(orjson.dumps(body | {"usage": _usage(answers)}), headers=[JSON_TYPE, *_headers(stamp)])

    def _find(self, wish: Wish, exchange: Exchange) -> tuple[ServedWriter, Stamp]:
        exchange.served = served = self._desk.find(wish.model)
        if not isinstance(served, ServedWriter):
            raise InvalidRequest(
                f"model: {wish.model} labels texts and writes none; use /v1/models/{wish.model}:predict"
            )
        return served, Stamp(wish.model, served.manifest, served.variant)

    def _streamed(self, wish: Wish, exchange: Exchange) -> "EventStream":
        """The stream; whether there is a model is seen before it begins."""
        try:
            served, stamp = self._find(wish, exchange)
        except Exception:
            with self._desk.told(exchange):
                raise

        async def events() -> AsyncGenerator[dict[str, Any]]:
            with self._desk.told(exchange):
                async for event in _events(served, wish, stamp):
                    yield event

        return EventStream(events(), [EVENTS, *_headers(stamp)])


def _headers(stamp: Stamp) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in stamp.headers()]


async def _events(served: ServedWriter, wish: Wish, stamp: Stamp) -> AsyncGenerator[dict[str, Any]]:
    generation = served.generate(wish.prompts, wish.config)
    try:
        async for pieces in generation:
            yield _chunk(stamp, [_choice(index, piece, None) for index, piece in pieces])
    finally:
        await generation.aclose()
    yield _chunk(stamp, [_choice(index, "", one) for index, one in enumerate(generation.found)])
    if wish.usage:
        yield _chunk(stamp, []) | {"usage": _usage(generation.found)}


def _chunk(stamp: Stamp, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": stamp.prediction_id,
        "object": "text_completion",
        "created": int(time.time()),
        "model": stamp.model_name,
        "system_fingerprint": stamp.manifest.digest,
        "choices": choices,
    }


def _choice(index: int, text: str, ended: Continuation | None) -> dict[str, Any]:
    reason = REASONS[ended.ended] if ended else None
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _usage(written: Sequence[Continuation]) -> dict[str, int]:
    read_, wrote = sum(one.num_prompt_tokens for one in written), sum(one.num_tokens for one in written)
    return {"prompt_tokens": read_, "completion_tokens": wrote, "total_tokens": read_ + wrote}


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
                await self._event(send, orjson.dumps({"error": {"message": status_of(error)[2]}}))
            await self._event(send, b"[DONE]")
            await send({"type": "http.response.body", "body": b""})

    async def _event(self, send: Send, content: bytes) -> None:
        await send({"type": "http.response.body", "body": b"data: " + content + b"\n\n", "more_body": True})
