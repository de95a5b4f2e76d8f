"""The REST door: KServe's V1, the Open Inference Protocol's V2, and one JSON sentence for every failure."""

import asyncio
from collections.abc import Sequence
from typing import Any

import fairlead
from fairlead.inference.loading import Model
from serving import openapi, v1, v2
from serving.asgi import (
    JSON_TYPE,
    ClientLeft,
    Handler,
    NoRoute,
    Receive,
    Request,
    Response,
    Routes,
    Scope,
    Send,
    json_response,
)
from serving.cloudevents import Envelope
from serving.control import Control
from serving.desk import LARGE_BODY_BYTES, Desk, check_working
from serving.exchange import Exchange
from serving.failures import RETRIED, InvalidRequest, retry_after, status_of
from serving.interface import Interface, interface_of
from serving.jsonbody import read_body, read_object
from serving.metrics import exposed
from serving.openai.completions import CompletionsDoor
from serving.openai.embeddings import EmbeddingsDoor
from serving.openai.form import ERROR_PATHS, error_body, model_entry, model_list
from serving.questions import Question

LOAD_EXAMPLE = '{"parameters": {"ref": "support_topics:3"}}'
CLOSE = (b"connection", b"close")
BINARY_TYPE = (b"content-type", b"application/octet-stream")
# After these the rest of the body may still be on its way, and is not waited for.
UNREAD = (408, 413)


class RestDoor:
    """The ASGI application."""

    def __init__(self, desk: Desk, control: Control, more: Sequence[tuple[str, str, Handler]] = ()) -> None:
        """`more` are handlers by method and path besides those of the protocols."""
        self.desk, self.control = desk, control
        self.routes = Routes()
        for method, path, handler in (
            ("POST", "/v1/models/{model}:predict", self.predict),
            ("POST", "/v2/models/{model}/infer", self.infer),
            ("POST", "/v2/models/{model}/versions/{version}/infer", self.infer),
            ("POST", "/v1/models/{model}:explain", self.explain),
            ("GET", "/", self.alive),
            ("GET", "/v2", self.server),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.ready),
            ("GET", "/v1/models", self.v1_models),
            ("GET", "/v2/models", self.models),
            ("GET", "/v1/models/{model}", self.v1_model),
            ("GET", "/openai/v1/models", self.openai_models),
            ("GET", "/openai/v1/models/{model}", self.v1_model),
            ("GET", "/v2/models/{model}", self.model),
            ("GET", "/v2/models/{model}/ready", self.model_ready),
            ("GET", "/v2/models/{model}/versions/{version}", self.model),
            ("GET", "/v2/models/{model}/versions/{version}/ready", self.model_ready),
            ("GET", "/v2/repository/index", self.index),
            ("POST", "/v2/repository/index", self.index),
            ("POST", "/v2/repository/models/{model}/load", self.load),
            ("POST", "/v2/repository/models/{model}/unload", self.unload),
            ("POST", "/v2/repository/models/{model}/versions/{version}/unload", self.unload),
            ("GET", "/metrics", self.metrics),
            ("GET", "/openapi.json", self.described),
            *CompletionsDoor(desk).handlers(),
            *EmbeddingsDoor(desk).handlers(),
            *more,
        ):
            self.routes.add(method, path, handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive, {})
        try:
            await self._answer(request, send)
        except asyncio.CancelledError:
            if not request.left:
                raise
            # This is what the connection's end asked for.
            if task := asyncio.current_task():
                task.uncancel()
        except ClientLeft:
            return
        finally:
            request.unwatch()

    async def _answer(self, request: Request, send: Send) -> None:
        try:
            handler, request.parts = self.routes.find(request.scope["method"], request.scope["path"])
            response = await handler(request)
            await response.send(send, *self._closing(response.headers))
        except ClientLeft:
            raise
        except Exception as error:
            unread = not request.is_read and request.num_bytes >= LARGE_BODY_BYTES
            response = failed(error, unread, request.scope["path"])
            await response.send(send, *self._closing(response.headers))

    def _closing(self, headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
        return (CLOSE,) if self.desk.draining and CLOSE not in headers else ()

    async def predict(self, request: Request) -> Response:
        """V1 predict; as a CloudEvent when it came as one."""
        envelope = Envelope(request)

        async def read(interface: Interface) -> tuple[Question, float | None]:
            seconds = request.deadline_seconds

            def question(body: bytes) -> Question:
                return v1.read(envelope.opened(read_object(body, v1.EXAMPLE)), interface)

            return await read_body(request, question), seconds

        exchange = Exchange("v1", request.parts["model"], request.header_text, request.arrived)
        answered = await self.desk.answer(exchange, "", read, request.num_bytes)
        answer = v1.written(answered.question, answered.answers, answered.stamp)
        return envelope.response(answer, answered.stamp)

    async def infer(self, request: Request) -> Response:
        """V2 infer, with or without a version."""

        async def read(interface: Interface) -> tuple[Question, float | None]:
            seconds = request.deadline_seconds
            length = request.header(v2.JSON_LENGTH)
            return await read_body(request, lambda body: v2.read(body, length, interface)), seconds

        exchange = Exchange("v2", request.parts["model"], request.header_text, request.arrived)
        answered = await self.desk.answer(exchange, request.parts.get("version", ""), read, request.num_bytes)
        body, size = v2.written(answered)
        headers = answered.stamp.http_headers()
        if size is None:
            return Response(body, headers=[JSON_TYPE, *headers])
        return Response(body, headers=[BINARY_TYPE, (v2.JSON_LENGTH, b"%d" % size), *headers])

    async def explain(self, request: Request) -> Response:
        """Refuse: V1 has this verb, and no model here gives explanations."""
        self.desk.find(request.parts["model"])
        raise InvalidRequest("explain: this model gives no explanations; use :predict")

    async def alive(self, _: Request) -> Response:
        """V1's liveness."""
        return json_response({"status": "alive"})

    async def live(self, _: Request) -> Response:
        """V2's liveness: the event loop turns."""
        return json_response({"live": True})

    async def ready(self, _: Request) -> Response:
        """Whether new requests are welcome, and if not, why."""
        if self.desk.ready:
            return json_response({"ready": True})
        return json_response({"ready": False, "error": f"server: it is not ready, {self.desk.reason}"}, 503)

    async def server(self, _: Request) -> Response:
        """The server's metadata."""
        return json_response(server_metadata())

    async def models(self, _: Request) -> Response:
        """Names of the models."""
        return json_response({"models": self.desk.models().names()})

    async def v1_models(self, _: Request) -> Response:
        """The same, and as OpenAI's clients look for it at this address."""
        models = self.desk.models()
        return json_response({"models": models.names(), **model_list(models)})

    async def openai_models(self, _: Request) -> Response:
        """The models in OpenAI's form."""
        return json_response(model_list(self.desk.models()))

    async def v1_model(self, request: Request) -> Response:
        """Whether a model answers, and as OpenAI's clients look for it at this address."""
        name, served = request.parts["model"], self._served(request)
        check_working(served)
        return json_response({"name": name, "ready": True, **model_entry(served, name)})

    async def model(self, request: Request) -> Response:
        """A model's metadata."""
        interface = interface_of(self._served(request))
        # A deployment is over when this very content answers, not only this name.
        digest = {"parameters": {"digest": interface.manifest.digest}}
        return json_response(interface.metadata(request.parts["model"]) | digest)

    async def model_ready(self, request: Request) -> Response:
        """Whether a model, in the version asked for, answers."""
        check_working(self._served(request))
        return json_response({"name": request.parts["model"], "ready": True})

    def _served(self, request: Request) -> Model:
        return self.desk.find(request.parts["model"], request.parts.get("version", ""))

    async def index(self, _: Request) -> Response:
        """Every model with its version and state, as Triton's model repository extension has it."""
        return json_response(self.control.index())

    async def load(self, request: Request) -> Response:
        """Load a model: `{"parameters": {"ref": "support_topics:3"}}`."""
        name = request.parts["model"]
        body = await read_body(request, lambda body: read_object(body, LOAD_EXAMPLE) if body else {})
        parameters = body.get("parameters")
        await self.control.load(name, parameters)
        return json_response({"name": name, "load": True})

    async def unload(self, request: Request) -> Response:
        """Unload a model, or one version of it."""
        name = request.parts["model"]
        await self.control.unload(name, request.parts.get("version", ""))
        return json_response({"name": name, "unload": True})

    async def metrics(self, request: Request) -> Response:
        """Prometheus's."""
        self.desk.flush()
        content, content_type = exposed(request.header_text("accept"))
        return Response(content, headers=[(b"content-type", content_type.encode())])

    async def described(self, _: Request) -> Response:
        """What this door takes and gives, as OpenAPI."""
        names = self.desk.repository.names() if self.desk.repository else []
        return json_response(openapi.document(names))


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    extensions = ["binary_tensor_data", "model_repository"]
    return {"name": "fairlead", "version": fairlead.__version__, "extensions": extensions}


def failed(error: Exception, unread: bool = False, path: str = "") -> Response:
    """A failure as one JSON sentence with its status; `unread`: much of the body may still be on its way."""
    if isinstance(error, NoRoute):
        status, sentence = 405 if error.allowed else 404, str(error)
        headers = [(b"allow", ", ".join(error.allowed).encode())] if error.allowed else []
    else:
        status, _, sentence = status_of(error)
        headers = [(b"retry-after", retry_after(error).encode())] if status in RETRIED else []
        if status in UNREAD or unread:
            headers.append(CLOSE)
    body = error_body(status, sentence) if path in ERROR_PATHS else {"error": sentence}
    return json_response(body, status, *headers)
