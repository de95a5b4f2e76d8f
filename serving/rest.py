"""The REST door: KServe's own V1 and V2 routes, with every failure as one JSON sentence."""

import re

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve.protocol.rest.server import metrics_handler
from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import fairlead
from serving.dataplane import FixedRepository, VersionDataPlane
from serving.failures import STATUSES, status_of

# 1,024 texts of 32 KB. A body is held in memory several times over while it is read.
MAX_BODY_BYTES = 32 << 20
VERSIONED = re.compile(r"/v2/models/(?P<model>[^/]+)/versions/(?P<version>[^/]+)(?P<rest>/.*)?")


def build_app(dataplane: VersionDataPlane) -> FastAPI:
    """The application that serves `dataplane`."""
    app = FastAPI(title="Fairlead model server", version=fairlead.__version__, docs_url=None, redoc_url=None)
    app.add_api_route("/", dataplane.live)
    app.add_api_route("/metrics", metrics_handler, methods=["GET"])
    repository = FixedRepository(dataplane.model_registry)
    register_v1_endpoints(app, dataplane, repository)
    register_v2_endpoints(app, dataplane, repository)
    for kind in (*(kind for kind, _, _ in STATUSES), Exception):
        app.add_exception_handler(kind, _failed)
    app.add_exception_handler(HTTPException, _http_failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Versions, dataplane=dataplane)
    app.add_middleware(BodyLimit)
    return app


async def _failed(_: Request, error: Exception) -> JSONResponse:
    status, _, sentence = status_of(error)
    return JSONResponse({"error": sentence}, status)


async def _http_failed(request: Request, error: Exception) -> JSONResponse:
    """Routing failures, as starlette raises them: no such path, no such method."""
    assert isinstance(error, HTTPException)
    sentence = f"{request.method} {request.url.path}: {error.detail}; see the Open Inference Protocol"
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """A V2 body that is not an inference request: FastAPI checks it before kserve's route is called."""
    assert isinstance(error, RequestValidationError)
    first = next((e for e in error.errors() if "InferenceRequest" in e["loc"]), error.errors()[0])
    path = [part for part in first["loc"] if part not in ("body", "InferenceRequest")]
    if first["type"] == "json_invalid":
        sentence = f"body: it is not JSON ({first['ctx']['error']}); correct it"
    else:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        sentence = f"{where or 'body'}: {first['msg']}; see the Open Inference Protocol"
    return JSONResponse({"error": sentence}, 400)


class BodyLimit:
    """Refuse a body over MAX_BODY_BYTES before it fills the memory."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what arrives."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPException(413, f"the body is over the limit of {MAX_BODY_BYTES:,} bytes")
            return message

        await self.app(scope, counted, send)


class Versions:
    """Serve `/v2/models/<model>/versions/<version>/...`, for which kserve's routes answer 501."""

    def __init__(self, app: ASGIApp, dataplane: VersionDataPlane) -> None:
        self.app = app
        self.dataplane = dataplane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the version out of the path when it is the one served."""
        match = VERSIONED.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if match:
            try:
                self.dataplane.check_version(match["model"], match["version"])
            except Exception as error:
                return await (await _failed(Request(scope), error))(scope, receive, send)
            scope = {**scope, "path": f"/v2/models/{match['model']}{match['rest'] or ''}"}
        return await self.app(scope, receive, send)
