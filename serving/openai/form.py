"""The form of OpenAI's API: its errors, its list of models, and where it is served.

Format: https://platform.openai.com/docs/api-reference
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fairlead.inference.loading import Model
from fairlead.inference.repository import Repository
from serving.failures import InvalidRequest
from serving.questions import kind

# Its own place, and where KServe has it.
PREFIXES = ("/v1", "/openai/v1")
# A sentence begins with the field that is wrong.
_FIELD = re.compile(r"(?P<field>[a-z_]+)[\w.\[\]]*: ")
NO_FIELDS = ("body", "server")
CODES = {404: "model_not_found", 429: "rate_limit_exceeded", 503: "not_ready", 504: "deadline_exceeded"}


def paths(*names: str) -> tuple[str, ...]:
    """Where something is served."""
    return tuple(f"{prefix}/{name}" for prefix in PREFIXES for name in names)


ERROR_PATHS = frozenset(paths("completions", "embeddings"))


def error_body(status: int, sentence: str) -> dict[str, Any]:
    """A failure: message, type, the field that is wrong (`param`), and a word for programs (`code`)."""
    match = _FIELD.match(sentence)
    field = match["field"] if match and status < 429 and match["field"] not in NO_FIELDS else None
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": sentence, "type": kind, "param": field, "code": CODES.get(status)}}


def model_entry(served: Model, name: str) -> dict[str, Any]:
    """One model under its name; `created` is a Unix time."""
    created = int(datetime.fromisoformat(served.manifest.created).timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": "fairlead"}


def model_list(models: Repository) -> dict[str, Any]:
    """All models."""
    return {"object": "list", "data": [model_entry(models.get(name), name) for name in models.names()]}


def read_model(body: dict[str, Any], example: str) -> str:
    """The name of the model that is asked for. Raises InvalidRequest."""
    name = body.get("model")
    if not isinstance(name, str):
        raise InvalidRequest(f"model: a name is expected, not {kind(name)}; send {example}")
    return name


def check_fields(body: dict[str, Any], known: Sequence[str], neutral: dict[str, tuple[Any, ...]]) -> None:
    """Refuse fields that are not known, and those that would do something which is not done here."""
    for name, value in body.items():
        # False equals 0, and means something else.
        if name in neutral and (type(value), value) not in [(type(same), same) for same in neutral[name]]:
            raise InvalidRequest(f"{name}: {value!r:.40} is not done here; leave it away")
        if name not in neutral and name not in known:
            raise InvalidRequest(f"{name:.40}: there is no such field; known are {', '.join(known)}")
