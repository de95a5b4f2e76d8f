"""The embeddings of OpenAI's API (`POST /v1/embeddings`): what a model's head reads of each text, of length 1."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairlead.inference.answers import Embedded
from serving.asgi import Handler, Request, Response, json_response
from serving.desk import Desk
from serving.exchange import Exchange
from serving.failures import InvalidRequest
from serving.interface import EMBEDDING, Interface, interface_of
from serving.jsonbody import read_body, read_object
from serving.openai.form import check_fields, paths, read_model
from serving.questions import Question, check_embedding, kind, read_items, read_token_ids
from serving.reading import beside

EXAMPLE = '{"model": "name", "input": ["text"]}'
KNOWN = ("model", "input", "encoding_format", "dimensions", "user")
FORMATS = ("float", "base64")
# Looking at every token id of more texts takes milliseconds.
MANY = 64


@dataclass(frozen=True)
class Wish:
    """The fields of a valid request, but for its texts, which are read once the model is known."""

    model: str
    """Name on the endpoint."""
    input: Any
    """Texts, or token ids."""
    base64: bool
    """Whether numbers go as bytes."""
    dimensions: int | None
    """How many numbers the caller expects."""


class EmbeddingsDoor:
    """The handler."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Sequence[tuple[str, str, Handler]]:
        """By method and path."""
        return [("POST", path, self.embed) for path in paths("embeddings")]

    async def embed(self, request: Request) -> Response:
        """Embed texts."""
        exchange = Exchange("openai", "", request.header_text, request.arrived)
        with self._desk.told(exchange):
            seconds = request.deadline_seconds
            wish = await read_body(request, lambda body: read(read_object(body, EXAMPLE)))
            exchange.model, exchange.served = wish.model, (served := self._desk.find(wish.model))
            interface = interface_of(served)
            many = isinstance(wish.input, list) and len(wish.input) > MANY
            question = await beside(lambda: _question(wish, interface)) if many else _question(wish, interface)
            exchange.question = question
            answered = await self._desk.ask(exchange, served, question, seconds)
        return json_response(_written(wish, answered.answers), 200, *answered.stamp.http_headers())


def read(body: dict[str, Any]) -> Wish:
    """Read a request. Raises InvalidRequest, which names the field."""
    check_fields(body, KNOWN, {})
    name, form, dimensions = read_model(body, EXAMPLE), body.get("encoding_format"), body.get("dimensions")
    if form not in (None, *FORMATS):
        raise InvalidRequest(f"encoding_format: {form!r:.40} is unknown; known are {' and '.join(FORMATS)}")
    if dimensions is not None and type(dimensions) is not int:
        raise InvalidRequest(f"dimensions: a number is expected, not {kind(dimensions)}; leave it away")
    return Wish(name, body.get("input"), form == "base64", dimensions)


def _question(wish: Wish, interface: Interface) -> Question:
    check_embedding("model", interface)
    if wish.dimensions not in (None, interface.embedding_size):
        raise InvalidRequest(
            f"dimensions: an embedding of {wish.model} has {interface.embedding_size}, not {wish.dimensions}; "
            "leave it away"
        )
    given = [wish.input] if isinstance(wish.input, str) else wish.input
    if not isinstance(given, list):
        raise InvalidRequest(f"input: a text, or a list of texts, is expected, not {kind(given)}; send {EXAMPLE}")
    if given and type(given[0]) is int:
        return Question([read_token_ids(given, "input", interface)], (EMBEDDING,), normalize=True)
    return Question(read_items(given, "input", interface), (EMBEDDING,), normalize=True)


def _written(wish: Wish, answers: Sequence[Embedded]) -> dict[str, Any]:
    tokens = sum(one.num_tokens for one in answers)
    data = [
        {"object": "embedding", "index": index, "embedding": _numbers(one, wish)} for index, one in enumerate(answers)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": wish.model, "data": data, "usage": usage}


def _numbers(one: Embedded, wish: Wish) -> str | list[float]:
    if wish.base64:
        return base64.b64encode(np.asarray(one.embedding, "<f4").tobytes()).decode()
    numbers: list[float] = one.embedding.tolist()
    return numbers
