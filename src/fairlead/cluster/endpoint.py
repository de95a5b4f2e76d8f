"""What an endpoint says of itself: which version it serves, and the digest of that version.

In the cluster its address is asked. From outside the API server is, whose own address no NetworkPolicy of ours lets in:
where policies are enforced it reaches the pods of its own node at most. Then a ready pod is asked through its kubelet.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from fairlead.cluster.api_server import ApiServer, items
from fairlead.cluster.forwarding import SECONDS_TO_ANSWER, ask_pod
from fairlead.cluster.pods import is_ready
from fairlead.errors import ClusterError, ConfigError, FairleadError
from fairlead.names import kubernetes_name

# Of the model server, in its pod.
PORT = 8080
# What the API server says of a Service without a ready pod: there is nobody to ask.
NO_ENDPOINTS = "no endpoints available for service"


@dataclass(frozen=True)
class Answering:
    """What an endpoint says it serves."""

    version: str
    digest: str | None


Ask = Callable[[], Answering | None]


@dataclass
class Endpoint:
    """The endpoint of a model, asked from outside the cluster."""

    server: ApiServer
    project: str
    blocked: str = ""
    """Why a pod that is ready could not be asked, as of the last question."""
    _is_proxy_kept_out: bool = field(default=False, init=False)

    def ask(self) -> Answering | None:
        """What it says; None while it does not answer. Raises ConfigError for an account that may not ask."""
        self.blocked = ""
        if not self._is_proxy_kept_out:
            try:
                return _read(self.server.get_once(self._proxy, SECONDS_TO_ANSWER))
            except ConfigError:
                raise
            except FairleadError as error:
                if NO_ENDPOINTS in str(error):
                    return None
        return self._ask_a_pod()

    def _ask_a_pod(self) -> Answering | None:
        try:
            # Of the stable predictor: a canary's pods have another label.
            selector = f"app=isvc.{kubernetes_name(self.project)}-predictor"
            found = self.server.get_once(f"/api/v1/namespaces/{self.server.namespace}/pods", labelSelector=selector)
        except FairleadError:
            return None
        for pod in (pod["metadata"]["name"] for pod in items(found) if is_ready(pod)):
            return self._forwarded(pod)
        return None

    def _forwarded(self, pod: str) -> Answering | None:
        try:
            answer = _read(ask_pod(self.server, pod, PORT, self._path))
        except ClusterError as error:
            self.blocked = (
                f"pod {pod} is ready and cannot be asked from here: the API server's proxy does not get through to it, "
                f"which NetworkPolicies may refuse, and no port is forwarded ({error}); allow this account "
                "pods/portforward, or ask from a pod of the namespace"
            )
            return None
        self._is_proxy_kept_out = True
        return answer

    @property
    def _path(self) -> str:
        return f"/v2/models/{kubernetes_name(self.project)}"

    @property
    def _proxy(self) -> str:
        service = f"{kubernetes_name(self.project)}-predictor:80"
        return f"/api/v1/namespaces/{self.server.namespace}/services/{service}/proxy{self._path}"


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
