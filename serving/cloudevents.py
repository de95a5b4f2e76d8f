"""Requests that come as CloudEvents 1.0 over HTTP, and answers that go out as one: as kserve's server has them for V1.

    binary        the body is the request, the attributes are headers `ce-id`, `ce-source`, `ce-type`, `ce-specversion`
    structured    the body is the event, `data` in it the request; content type application/cloudevents+json

Format: https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/http-protocol-binding.md. Types and sources
of answers are kserve's, and so are the variables that set them: CE_TYPE, CE_SOURCE, and CE_MERGE, with which attributes
of the request come back.
"""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from serving.answers import Stamp
from serving.asgi import Request, Response, json_response
from serving.failures import InvalidRequest
from serving.questions import kind

MEDIA_TYPE = "application/cloudevents"
STRUCTURED = (b"content-type", b"application/cloudevents+json")
VERSIONS = ("1.0", "0.3")
REQUIRED = ("specversion", "id", "source", "type")
PREFIX = "ce-"
EXAMPLE = '{"specversion": "1.0", "id": "1", "source": "me", "type": "text", "data": {"instances": ["text"]}}'


@dataclass
class Envelope:
    """What a request came in, and its answer goes out in."""

    request: Request
    form: Literal["", "binary", "structured"] = ""
    """Of the answer; empty where that is no event."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Of the request."""

    def opened(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request itself. Raises InvalidRequest, which names the attribute that is wrong."""
        if self.request.header(b"ce-specversion") is not None:
            self.form = "binary"
            self.attributes = _from_headers(self.request)
            _check(self.attributes, PREFIX)
            return body
        media = (self.request.header_text("content-type") or "").partition(";")[0].strip().lower()
        if media.startswith(MEDIA_TYPE):
            if media != STRUCTURED[1].decode():
                raise InvalidRequest(f"content-type: {media:.60} is not read here; send one event a request")
            self.form = "structured"
        elif not {*REQUIRED, "time", "data"} <= body.keys():
            return body
        # Where it looks like an event, kserve opens it, too, and answers without one.
        return self._structured(body)

    def _structured(self, body: dict[str, Any]) -> dict[str, Any]:
        self.attributes = {name: value for name, value in body.items() if name != "data"}
        _check(self.attributes, "")
        data = body.get("data")
        if not isinstance(data, dict):
            raise InvalidRequest(f"data: an object is expected, not {kind(data)}; send {EXAMPLE}")
        return data

    def response(self, answer: dict[str, Any], stamp: Stamp) -> Response:
        """The answer, as an event where the request was one."""
        if not self.form:
            return json_response(answer, 200, *stamp.http_headers())
        attributes = self._answered(stamp)
        if self.form == "structured":
            body = orjson.dumps(attributes | {"data": answer})
            return Response(body, headers=[STRUCTURED, *stamp.http_headers()])
        named = [(f"{PREFIX}{name}".encode(), str(value).encode("latin-1")) for name, value in attributes.items()]
        return json_response(answer, 200, *named, *stamp.http_headers())

    def _answered(self, stamp: Stamp) -> dict[str, Any]:
        """Attributes of the answer; its id is the prediction's."""
        merged = self.attributes if os.environ.get("CE_MERGE", "false").lower() == "true" else {}
        left_out = ("datacontenttype",) if self.form == "binary" else ()
        return {name: value for name, value in merged.items() if name not in left_out} | {
            "specversion": self.attributes["specversion"],
            "id": stamp.prediction_id,
            "source": os.environ.get("CE_SOURCE", f"io.kserve.inference.{stamp.model_name}"),
            "type": os.environ.get("CE_TYPE", "io.kserve.inference.response"),
            "time": datetime.now(UTC).isoformat(),
        }


def _from_headers(request: Request) -> dict[str, Any]:
    named = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in request.scope["headers"]]
    return {key.removeprefix(PREFIX): value for key, value in named if key.startswith(PREFIX)}


def _check(attributes: dict[str, Any], prefix: str) -> None:
    for name in REQUIRED:
        value = attributes.get(name)
        if not isinstance(value, str) or not value:
            raise InvalidRequest(f"{prefix}{name}: a string is expected, not {kind(value)}; send a whole CloudEvent")
    if attributes["specversion"] not in VERSIONS:
        raise InvalidRequest(
            f"{prefix}specversion: {attributes['specversion']!r:.40} is not read here; known are {', '.join(VERSIONS)}"
        )
