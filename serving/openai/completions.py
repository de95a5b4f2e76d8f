"""The completions of OpenAI's API (`POST /v1/completions`), whole or as server-sent events."""

import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fairlead.inference.generation import Continuation
from fairlead.inference.writing import ServedWriter
from serving.answers import Stamp
from serving.asgi import Handler, Request, json_response
from serving.desk import Desk
from serving.exchange import Answered, Exchange
from serving.failures import InvalidRequest
from serving.interface import TEXT, interface_of
from serving.jsonbody import read_body, read_object
from serving.openai.events import EventStream
from serving.openai.form import paths
from serving.openai.wish import EXAMPLE, Wish, read
from serving.questions import Question

EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
REASONS = {"stop": "stop", "end": "stop", "length": "length"}


class CompletionsDoor:
    """The handler."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Sequence[tuple[str, str, Handler]]:
        """By method and path."""
        return [("POST", path, self.complete) for path in paths("completions")]

    async def complete(self, request: Request) -> Any:
        """Continue prompts."""
        exchange = Exchange("openai", "", request.header_text, request.arrived)
        try:
            seconds = request.deadline_seconds
            wish = await read_body(request, lambda body: read(read_object(body, EXAMPLE)))
            exchange.model = wish.model
            served = self._find(wish)
        except Exception:
            with self._desk.told(exchange):
                raise
        exchange.served, stamp = served, Stamp(wish.model, served.manifest, served.variant)
        if wish.stream:
            return EventStream(self._events(served, wish, stamp, exchange, seconds), [EVENTS, *stamp.http_headers()])
        with self._desk.told(exchange):
            exchange.asked = time.perf_counter()
            answers = await served.write(wish.prompts, wish.config, seconds)
            exchange.answered = _answered(served, wish, stamp, answers, exchange)
        texts = [_begin(wish, index) + one.text for index, one in enumerate(answers)]
        body = _chunk(stamp, [_choice(index, text, answers[index]) for index, text in enumerate(texts)])
        return json_response(body | {"usage": _usage(wish, answers)}, 200, *stamp.http_headers())

    def _find(self, wish: Wish) -> ServedWriter:
        served = self._desk.find(wish.model)
        if not isinstance(served, ServedWriter):
            raise InvalidRequest(
                f"model: {wish.model} labels texts and writes none; use /v1/models/{wish.model}:predict"
            )
        return served

    async def _events(
        self, served: ServedWriter, wish: Wish, stamp: Stamp, exchange: Exchange, seconds: float | None
    ) -> AsyncGenerator[dict[str, Any]]:
        usage = {"usage": None} if wish.usage else {}
        with self._desk.told(exchange):
            exchange.asked = time.perf_counter()
            generation = served.generate(wish.prompts, wish.config, seconds)
            try:
                if wish.echo:
                    yield _chunk(stamp, [_choice(index, text, None) for index, text in enumerate(wish.prompts)]) | usage
                async for pieces in generation:
                    yield _chunk(stamp, [_choice(index, piece, None) for index, piece in pieces]) | usage
            finally:
                await generation.aclose()
            found = generation.found
            exchange.answered = _answered(served, wish, stamp, found, exchange)
            yield _chunk(stamp, [_choice(index, "", one) for index, one in enumerate(found)]) | usage
            if wish.usage:
                yield _chunk(stamp, []) | {"usage": _usage(wish, found)}


def _answered(
    served: ServedWriter, wish: Wish, stamp: Stamp, answers: Sequence[Continuation], exchange: Exchange
) -> Answered:
    exchange.done = time.perf_counter()
    exchange.question = question = Question(list(wish.prompts), (TEXT,), generation=wish.config)
    return Answered(question, answers, stamp, interface_of(served))


def _begin(wish: Wish, index: int) -> str:
    return wish.prompts[index] if wish.echo else ""


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


def _usage(wish: Wish, written: Sequence[Continuation]) -> dict[str, int]:
    # A prompt counts once, however many texts follow it.
    read_ = sum(one.num_prompt_tokens for one in written[:: wish.count])
    wrote = sum(one.num_tokens for one in written)
    return {"prompt_tokens": read_, "completion_tokens": wrote, "total_tokens": read_ + wrote}
