"""Requests that schemathesis draws from the server's own OpenAPI description, to fit it and not to."""

import json
from typing import Any

import httpx
import requests
import schemathesis
from schemathesis import Case, GenerationMode

from tests.serving.fuzz.drawing import draw
from tests.serving.fuzz.rest import Call, check
from tests.serving.fuzz.tally import Tally

OPERATIONS = (
    ("POST", "/v1/models/{model}:predict"),
    ("POST", "/v2/models/{model}/infer"),
    ("POST", "/v2/models/{model}/versions/{version}/infer"),
    ("GET", "/v2/models/{model}"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v2/feedback"),
    ("GET", "/v2/predictions/{id}"),
)


def run(base: str, number: int, number_seed: int, tally: Tally) -> None:
    """So many calls over all operations, half of them of each kind."""
    document = httpx.get(f"{base}/openapi.json", trust_env=False).json()
    schema = schemathesis.openapi.from_dict(document)
    with requests.Session() as session:
        session.trust_env = False
        for method, path in OPERATIONS:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                drawn = schema[path][method].as_strategy(generation_mode=mode)
                _draw(drawn, number // len(OPERATIONS) // 2, number_seed, base, session, mode, tally)


def _draw(strategy: Any, number: int, number_seed: int, base: str, session: Any, mode: Any, tally: Tally) -> None:
    def call(case: Case) -> None:
        _call(case, base, session, f"{case.operation.label}, {mode.value}", tally)

    draw(strategy, number, number_seed, call)


def _call(case: Case, base: str, session: requests.Session, kind: str, tally: Tally) -> None:
    try:
        request = requests.Request(**case.as_transport_kwargs(base_url=base)).prepare()
    # Some of what is drawn cannot be sent at all: lone surrogates, headers with line breaks.
    except (ValueError, requests.RequestException):
        return
    try:
        response = session.send(request, timeout=120, allow_redirects=False)
    except requests.RequestException as error:
        tally.add(kind, "closed")
        tally.fail(kind, f"no answer: {error}", request.body)
        return
    body = request.body.encode() if isinstance(request.body, str) else request.body or b""
    path = request.path_url.partition("?")[0]
    if request.method == "POST" and path.startswith(("/v1/models/support-topics:", "/v2/models/support-topics/infer")):
        headers = {name.lower(): str(value) for name, value in request.headers.items()}
        check(Call(kind, path, body, headers), response.status_code, response.content, None, tally)
        return
    tally.add(kind, str(response.status_code))
    if response.status_code >= 500:
        tally.fail(kind, response.text[:200], (request.method, request.url, body))
    elif response.status_code >= 400 and set(json.loads(response.content)) != {"error"}:
        tally.fail(kind, f"no sentence: {response.text[:200]}", (request.method, request.url, body))
