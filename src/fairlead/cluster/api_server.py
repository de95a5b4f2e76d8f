"""The door to a Kubernetes API server: plain objects in and out, its errors as sentences of ours.

The `kubernetes` client gives configuration, TLS and tokens; its generated methods are left aside,
because that for patching custom objects (v30) sends a merge patch under the name of a JSON patch.
"""

import contextlib
import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config
from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from fairlead.errors import ClusterError, ConfigError, Conflict, FairleadError, NotFound
from fairlead.names import NAMESPACE_ENV

Object = dict[str, Any]
T = TypeVar("T")

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
MANAGER = "fairlead"
# Connect, and read of an answer that is no stream.
TIMEOUTS = (10, 30)
# An API server that restarts behind its load balancer is back by then.
PATIENCE_SECONDS = 60.0
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Gone(ClusterError):
    """The version that a watch was to go on from is no longer kept: list again."""


class ApiServer:
    """An API server and the namespace that is worked in."""

    def __init__(self, api_client: Any, namespace: str) -> None:
        """`api_client` is a kubernetes.client.ApiClient."""
        self._client, self.namespace = api_client, namespace

    @classmethod
    def connect(cls, need: str, remedy: str) -> "ApiServer":
        """The cluster that this pod is in, or that the kubeconfig names.

        Raises ConfigError without any, which says that `need` needs one, and what to do.
        """
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST"):
                config.load_incluster_config()
                namespace = os.environ.get(NAMESPACE_ENV) or NAMESPACE_FILE.read_text("utf-8").strip()
            else:
                _, context = config.list_kube_config_contexts()
                config.load_kube_config()
                namespace = os.environ.get(NAMESPACE_ENV) or context["context"].get("namespace", "default")
        except (ConfigException, OSError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"{need} needs a cluster, and there is none here ({reason}); {remedy}") from error
        return cls(client.ApiClient(), namespace)

    def get(self, path: str, **query: Any) -> Object:
        """The object or list at `path`."""
        return self._patiently("GET", path, query)

    def create(self, path: str, body: Object) -> Object:
        """Create an object; unknown fields are refused, not dropped. Raises Conflict when its name is taken."""
        return self._patiently("POST", path, {"fieldManager": MANAGER, "fieldValidation": "Strict"}, body)

    def patch(self, path: str, body: Object) -> Object:
        """Merge `body` into the object. Raises Conflict when `metadata.resourceVersion` in it is no longer current."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        return self._patiently("PATCH", path, query, body, MERGE_PATCH)

    def apply(self, path: str, body: Object, force: bool = False) -> Object:
        """Server-side apply: make the object, or the fields of it that `body` names.

        Raises Conflict when another manager owns one that would change, unless `force` takes it over.
        """
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": "true" if force else "false"}
        return self._patiently("PATCH", path, query, body, APPLY_PATCH)

    @property
    def configuration(self) -> Any:
        """The settings of the client, for another one of the same server."""
        return self._client.configuration

    @cached_property
    def _once(self) -> "ApiServer":
        """The same without what urllib3 does on its own, which is to wait for an answer three times more."""
        configuration = copy.copy(self.configuration)
        configuration.retries = False
        return ApiServer(client.ApiClient(configuration), self.namespace)

    def within(self, namespace: str) -> "ApiServer":
        """The same API server, in another namespace."""
        return ApiServer(self._client, namespace)

    def get_once(self, path: str, seconds: float = TIMEOUTS[1], **query: Any) -> Object:
        """The object or list at `path`, asked for once and for `seconds`: for who asks again anyway."""
        with translated(path):
            answer: Object = self._once._request("GET", path, query, timeout=(TIMEOUTS[0], seconds))
            return answer

    def delete(self, path: str) -> None:
        """Delete the object, and in the background what it owns; that there is none is no error."""
        with contextlib.suppress(NotFound):
            self._patiently("DELETE", path, {"propagationPolicy": "Background"})

    def lines(self, path: str, **query: Any) -> Iterator[str]:
        """The lines of an answer that goes on for as long as the server has something to say."""
        with translated(path):
            # Watches are ended by the server's timeout; a silent log for an hour is a cut connection.
            answer = self._request("GET", path, query, stream=True, timeout=(TIMEOUTS[0], 3600))
            try:
                rest = b""
                for chunk in answer.stream(amt=None, decode_content=False):
                    *complete, rest = (rest + chunk).split(b"\n")
                    yield from (line.decode("utf-8", "replace") for line in complete)
                if rest:
                    yield rest.decode("utf-8", "replace")
            finally:
                answer.close()

    def watch(self, path: str, version: str, **query: Any) -> Iterator[tuple[str, Object]]:
        """Changes since `version`: ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"; object). Raises Gone when too old."""
        query |= {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": 300}
        for line in self.lines(path, **query):
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise _error(path, int(event["object"].get("code") or 500), str(event["object"].get("message")))
            yield event["type"], event["object"]

    def _patiently(
        self, method: str, path: str, query: Object, body: Object | None = None, kind: str = "application/json"
    ) -> Object:
        def ask() -> Object:
            with translated(path):
                answer: Object = self._request(method, path, query, body, kind)
                return answer

        return patiently(ask)

    def _request(
        self,
        method: str,
        path: str,
        query: Object,
        body: Object | None = None,
        kind: str = "application/json",
        stream: bool = False,
        timeout: tuple[float, float] = TIMEOUTS,
    ) -> Any:
        """One request. A server that has just started refuses everybody until it has read its roles: that is a 503."""
        ask = partial(
            self._client.call_api,
            path,
            method,
            query_params=list(query.items()),
            header_params={"Accept": "*/*" if stream else "application/json", "Content-Type": kind},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=not stream,
            _request_timeout=timeout,
        )
        try:
            return ask()
        except ApiException as error:
            if error.status != 403:
                raise
            if self._is_starting():
                raise ApiException(503, f"it is starting, and refuses everybody: {_message(error)}") from error
        # It may have become ready since it refused.
        return ask()

    def _is_starting(self) -> bool:
        """Whether it says that it is not ready; it says so to every account."""
        try:
            self._client.call_api("/readyz", "GET", auth_settings=["BearerToken"], _request_timeout=TIMEOUTS)
        except ApiException as error:
            return bool(error.status >= 500)
        return False


def patiently(ask: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """Ask again while the server does not answer or has trouble of its own, but not for what it refuses."""
    deadline, pause = time.monotonic() + seconds, 0.2
    while True:
        try:
            return ask()
        except ClusterError as error:
            if isinstance(error, Gone) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn what the client raises into an error of ours; ClusterError is what asking again may help."""
    try:
        yield
    except ApiException as error:
        raise _error(path, error.status, _message(error)) from error
    except (HTTPError, TimeoutError, OSError) as error:
        raise ClusterError(
            f"Kubernetes: its API server does not answer ({type(error).__name__} at {path}); "
            "check the network and that it is up, then run again"
        ) from error


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def _error(path: str, status: int, message: str) -> FairleadError:
    said = " ".join(message.split())[:600]
    if status in (401, 403):
        return ConfigError(
            f"Kubernetes: this step may not do what it must ({said}); "
            "bind the roles of manifests/base/runner and base/deployer to its account"
        )
    if status == 404:
        return NotFound(f"Kubernetes: there is no {path}; check the names and what is installed")
    if status == 409:
        return Conflict(f"Kubernetes: {said}; run again")
    if status == 410:
        return Gone(f"Kubernetes: {said}; list again")
    if status in (400, 422):
        return ConfigError(f"Kubernetes: it refuses the object ({said}); correct the settings it names")
    return ClusterError(f"Kubernetes: it answered {status} at {path} ({said}); see its log, then run again")


def items(path_list: Object) -> Sequence[Object]:
    """The objects of a list."""
    found: Sequence[Object] = path_list.get("items") or []
    return found
