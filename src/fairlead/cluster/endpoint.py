"""What an endpoint says of itself: which version it serves, and the digest of that version."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from fairlead.cluster.api_server import ApiServer
from fairlead.errors import ConfigError, FairleadError
from fairlead.names import kubernetes_name

# A model server says what it serves without waiting for a batch.
SECONDS_TO_ANSWER = 5.0


@dataclass(frozen=True)
class Answering:
    """What an endpoint says it serves."""

    version: str
    digest: str | None


Ask = Callable[[], Answering | None]


def answering(server: ApiServer, project: str) -> Answering | None:
    """What the model's Service says of itself, asked through the API server; None while it does not answer."""
    name = kubernetes_name(project)
    path = f"/api/v1/namespaces/{server.namespace}/services/{name}-predictor:80/proxy/v2/models/{name}"
    try:
        return _read(server.get_once(path))
    except ConfigError:
        raise
    except FairleadError:
        return None


def answering_at(base: str, project: str) -> Answering | None:
    """What the endpoint at an address, `https://topics.example.com`, says of itself; None while it does not answer."""
    try:
        found = httpx.get(f"{base.rstrip('/')}/v2/models/{kubernetes_name(project)}", timeout=SECONDS_TO_ANSWER)
        return _read(found.json()) if found.status_code == 200 else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None


def service_address(namespace: str, project: str) -> str:
    """Where pods of the cluster find the model that KServe serves in Standard mode."""
    return f"http://{kubernetes_name(project)}-predictor.{namespace}.svc"


def _read(said: Any) -> Answering | None:
    """The model metadata of the Open Inference Protocol, with the digest that our server adds."""
    versions = said.get("versions") if isinstance(said, dict) else None
    return Answering(str(versions[0]), (said.get("parameters") or {}).get("digest")) if versions else None
