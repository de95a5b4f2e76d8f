"""A small Kubernetes API server over real HTTP: objects, patches, watches and logs, and CRDs that it enforces.

It keeps what the real one promises its clients: a resourceVersion a change, 409 for an old one, 410 for
a watch from too long ago, `Strict` field validation against the structural schema of the CRDs,
immutable fields, `status` apart from `spec`, server-side apply with managers of fields, and deletion
with a grace period. What happens to an object beyond that is a controller's affair (trainer.py).
"""

import functools
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import pytest
import yaml

from manifests.validation.schemas import LOADER, strict
from tests.cluster import built_in, port_forwarding

Object = dict[str, Any]
PLURALS = {
    "pods": "Pod",
    "events": "Event",
    "secrets": "Secret",
    "customresourcedefinitions": "CustomResourceDefinition",
}


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status,
        }


@dataclass(frozen=True)
class Change:
    """One entry of a watch."""

    version: int
    kind: str
    event: str
    found: Object


@dataclass
class Cluster:
    """Everything the server knows."""

    crds: dict[str, Object] = field(default_factory=dict)
    """CRDs by plural name."""
    validators: dict[str, Any] = field(default_factory=dict)
    """Of their schemas."""
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    """By plural, namespace, name."""
    services: dict[str, Callable[[str], Object | None]] = field(default_factory=dict)
    """What a service answers to a path, through the API server; None is a connection refused."""
    logs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Lines with their times by pod."""
    ports: dict[tuple[str, int], int] = field(default_factory=dict)
    """Ports of this machine by pod and port, to which a port forward leads."""
    has_namespaces: bool = False
    """Whether objects are refused in namespaces that nobody made."""
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """Verb and plural that the caller may not."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    cut_watches: int = 0
    """Watches that are cut within a line, from now on."""
    minor: str = "36"
    """Of Kubernetes 1."""
    unavailable: int = 0
    """Requests that are answered with 503, from now on."""
    admit: list[Callable[[Object | None, Object], None]] = field(default_factory=list)
    """Webhooks: they change the new object, or raise Refusal."""
    changes: list[Change] = field(default_factory=list)
    oldest: int = 0
    version: int = 100
    lock: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""

    def install(self, path: Path, change: Callable[[Object], None] | None = None) -> None:
        """Install the CRD in a file, with a change if wanted."""
        crd, validator = _parsed(path)
        if change:
            crd = deepcopy(crd)
            change(crd)
            validator = _validator(crd)
        self.crds[crd["spec"]["names"]["plural"]] = crd
        self.validators[crd["spec"]["names"]["plural"]] = validator

    # Storage ---------------------------------------------------------------------------------------------------

    def put(self, plural: str, found: Object, event: str = "MODIFIED") -> Object:
        """Write an object as a controller does, and tell the watchers."""
        with self.lock:
            self.version += 1
            found = deepcopy(found)
            found["metadata"]["resourceVersion"] = str(self.version)
            key = (plural, found["metadata"].get("namespace", ""), found["metadata"]["name"])
            if event == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = found
            self.changes.append(Change(self.version, plural, event, found))
            self.lock.notify_all()
            return found

    def make(self, plural: str, found: Object) -> Object:
        """Create an object as a controller does."""
        found = deepcopy(found)
        found["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        return self.put(plural, found, "ADDED")

    def get(self, plural: str, name: str, namespace: str = "team") -> Object | None:
        with self.lock:
            return deepcopy(self.objects.get((plural, namespace, name)))

    def update(self, plural: str, name: str, change: Callable[[Object], None], namespace: str = "team") -> None:
        """Change an object in place, if it is there."""
        with self.lock:
            found = self.get(plural, name, namespace)
            if found is not None:
                before = deepcopy(found)
                change(found)
                if found != before:
                    self.put(plural, found)

    def remove(self, plural: str, name: str, namespace: str = "team") -> None:
        with self.lock:
            found = self.get(plural, name, namespace)
            if found is not None:
                self.put(plural, found, "DELETED")

    def select(self, plural: str, namespace: str, selector: dict[str, str]) -> list[Object]:
        with self.lock:
            return [
                deepcopy(found)
                for (kind, where, _), found in sorted(self.objects.items())
                if kind == plural and namespace in ("", where) and _selected(found, selector)
            ]

    def forget_changes(self) -> None:
        """Compact: watches from before now are told 410."""
        with self.lock:
            self.oldest = self.version
            self.changes.clear()

    def log(self, pod: str, line: str) -> None:
        with self.lock:
            self.logs.setdefault(pod, []).append((now(), line))
            self.lock.notify_all()

    # Requests --------------------------------------------------------------------------------------------------

    def create(self, plural: str, namespace: str, body: Object, query: dict[str, str]) -> Object:
        name = body["metadata"]["name"]
        with self.lock:
            if (plural, namespace, name) in self.objects:
                raise Refusal(409, "AlreadyExists", f'{plural} "{name}" already exists')
            self._check_namespace(namespace, body)
            body = deepcopy(body)
            body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            body["metadata"] |= {"namespace": namespace} if namespace else {}
            body["metadata"] |= {"generation": 1, "managedFields": [_manager(query, "Update", body)]}
            body.pop("status", None)
            self._check(plural, None, body, query)
            if query.get("dryRun") == "All":
                return body
            if plural == "namespaces" and self.has_namespaces:
                self.make("serviceaccounts", {"metadata": {"name": "default", "namespace": name}})
            return self.put(plural, body, "ADDED")

    def _check_namespace(self, namespace: str, body: Object) -> None:
        if not self.has_namespaces or not namespace:
            return
        if ("namespaces", "", namespace) not in self.objects:
            raise _missing("namespaces", namespace)
        if body["metadata"].get("namespace", namespace) != namespace:
            raise Refusal(400, "BadRequest", "the namespace of the object does not match the namespace on the request")

    def patch(
        self, plural: str, namespace: str, name: str, kind: str, body: Object, query: dict[str, str]
    ) -> tuple[int, Object]:
        with self.lock:
            old = self.get(plural, name, namespace)
            if kind == "application/apply-patch+yaml":
                return self._apply(plural, namespace, name, old, body, query)
            if kind != "application/merge-patch+json":
                raise Refusal(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")
            if old is None:
                raise _missing(plural, name)
            wanted = (body.get("metadata") or {}).get("resourceVersion")
            if wanted and wanted != old["metadata"]["resourceVersion"]:
                raise Refusal(
                    409, "Conflict", f'Operation cannot be fulfilled on {plural} "{name}": it has been modified'
                )
            new = merge(old, body)
            new = {k: v for k, v in new.items() if k != "status"} | {k: old[k] for k in ("status",) if k in old}
            return 200, self._replace(plural, old, new, query)

    def _apply(
        self, plural: str, namespace: str, name: str, old: Object | None, body: Object, query: dict[str, str]
    ) -> tuple[int, Object]:
        manager = query.get("fieldManager") or ""
        if not manager:
            raise Refusal(400, "BadRequest", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
        if old is None:
            body = merge({"metadata": {"name": name}}, body)
            return 201, self.create(plural, namespace, body, query)
        for other in old["metadata"].get("managedFields", []):
            taken = _conflicts(other["fieldsV1"], body.get("spec") or {}, old.get("spec") or {})
            if other["manager"] != manager and taken and query.get("force") != "true":
                raise Refusal(
                    409, "Conflict", f'Apply failed with 1 conflict: conflict with "{other["manager"]}": {taken}'
                )
        new = merge(old, body)
        new["metadata"]["managedFields"] = [
            *(m for m in old["metadata"].get("managedFields", []) if m["manager"] != manager),
            _manager(query, "Apply", body),
        ]
        return 200, self._replace(plural, old, new, query)

    def _replace(self, plural: str, old: Object, new: Object, query: dict[str, str]) -> Object:
        self._check(plural, old, new, query)
        if new == old or query.get("dryRun") == "All":
            return new
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        return self.put(plural, new)

    def delete(self, plural: str, namespace: str, name: str) -> Object:
        with self.lock:
            found = self.get(plural, name, namespace)
            if found is None:
                raise _missing(plural, name)
            if plural == "namespaces":
                for kind, where, inner in [key for key in self.objects if key[1] == name]:
                    self.remove(kind, inner, where)
            if not found["metadata"].get("finalizers"):
                return self.put(plural, found, "DELETED")
            found["metadata"]["deletionTimestamp"] = now()
            return self.put(plural, found)

    def _check(self, plural: str, old: Object | None, new: Object, query: dict[str, str]) -> None:
        """What the schema of the CRD says, then the webhooks."""
        crd = self.crds.get(plural)
        if crd:
            schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            default(schema, new)
            subject = {k: v for k, v in new.items() if k not in ("metadata", "apiVersion", "kind")}
            wrong = list(self.validators[plural].iter_errors(subject))
            unknown = [e for e in wrong if e.validator == "additionalProperties"]
            if unknown and query.get("fieldValidation") != "Strict":
                raise Refusal(500, "InternalError", "the caller did not ask for strict field validation")
            if unknown:
                raise Refusal(400, "BadRequest", f"strict decoding error: unknown field {unknown[0].message}")
            if wrong:
                said = f"{wrong[0].json_path}: {wrong[0].message[:200]}"
                raise Refusal(
                    422, "Invalid", f'{crd["spec"]["names"]["kind"]} "{new["metadata"]["name"]}" is invalid: {said}'
                )
            for path in immutable(schema, old or {}, new) if old else ():
                raise Refusal(422, "Invalid", f"{path}: field is immutable")
        for webhook in self.admit:
            webhook(old, new)


@functools.cache
def _parsed(path: Path) -> tuple[Object, Any]:
    """A CRD and its validator, made once: the schema of an InferenceService has 40,000 lines."""
    crd: Object = yaml.load(path.read_text("utf-8"), Loader=LOADER)
    return crd, _validator(crd)


def _validator(crd: Object) -> Any:
    return jsonschema.Draft202012Validator(strict(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def merge(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def default(schema: Object, value: Any) -> None:
    """Fill in what the schema gives as default."""
    if isinstance(value, dict):
        for name, below in (schema.get("properties") or {}).items():
            if "default" in below:
                value.setdefault(name, deepcopy(below["default"]))
            if name in value:
                default(below, value[name])
    elif isinstance(value, list):
        for item in value:
            default(schema.get("items") or {}, item)


def immutable(schema: Object, old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Fields that may not change (`self == oldSelf`) and have."""
    rules = [rule.get("rule") for rule in schema.get("x-kubernetes-validations") or []]
    if "self == oldSelf" in rules and old is not None and new is not None and old != new:
        yield path
    for name, below in (schema.get("properties") or {}).items():
        if isinstance(old, dict) and isinstance(new, dict) and name in old:
            yield from immutable(below, old[name], new.get(name), f"{path}.{name}".lstrip("."))


def _missing(plural: str, name: str) -> Refusal:
    return Refusal(404, "NotFound", f'{plural} "{name}" not found')


def _manager(query: dict[str, str], operation: str, body: Object) -> Object:
    manager = query.get("fieldManager") or "unknown"
    return {"manager": manager, "operation": operation, "time": now(), "fieldsV1": deepcopy(body.get("spec") or {})}


def _conflicts(owned: Any, wanted: Any, current: Any, path: str = ".spec") -> str:
    """The first field that someone else set and this one would change."""
    if isinstance(owned, dict) and isinstance(wanted, dict):
        for name in owned.keys() & wanted.keys():
            below = (current or {}).get(name) if isinstance(current, dict) else None
            if found := _conflicts(owned[name], wanted[name], below, f"{path}.{name}"):
                return found
        return ""
    return path if wanted != current else ""


def _selected(found: Object, selector: dict[str, str]) -> bool:
    for pair in filter(None, selector.get("labelSelector", "").split(",")):
        key, _, value = pair.partition("=")
        labels = found["metadata"].get("labels") or {}
        if key not in labels or ("=" in pair and labels[key] != value):
            return False
    for pair in filter(None, selector.get("fieldSelector", "").split(",")):
        path, _, value = pair.partition("=")
        at: Any = found
        for name in path.split("."):
            at = at.get(name) if isinstance(at, dict) else None
        if at != value:
            return False
    return True


class Handler(BaseHTTPRequestHandler):
    """One request, by path: /api/v1/namespaces/<ns>/<plural>/<name>[/log], or below /apis/<group>/<version>."""

    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def _handle(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.cluster.requests.append((self.command, self.path))
        try:
            if self.cluster.unavailable > 0:
                self.cluster.unavailable -= 1
                raise Refusal(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            self._route(url.path.strip("/").split("/"), query, json.loads(content) if content else None)
        except Refusal as refusal:
            self._answer(refusal.status, refusal.body)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _handle

    def _route(self, parts: list[str], query: dict[str, str], body: Any) -> None:
        if parts == ["version"]:
            return self._answer(200, {"major": "1", "minor": self.cluster.minor})
        if (parts[0], len(parts)) in (("apis", 3), ("api", 2)):
            return self._answer(200, self._discovery("/".join(parts[1:])))
        if parts[-1] == "selfsubjectaccessreviews":
            wanted = body["spec"]["resourceAttributes"]
            allowed = (wanted["verb"], wanted["resource"]) not in self.cluster.forbidden
            return self._answer(201, {**body, "status": {"allowed": allowed}})
        if parts[0] == "openapi":
            return self._answer(200, self._openapi(parts))
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if rest and rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, sub = (*rest, "", "", "")[:3]
        self._authorize(plural, name, query)
        if plural == "customresourcedefinitions":
            if (found := self.cluster.crds.get(name.partition(".")[0])) is None:
                raise _missing(plural, name)
            return self._answer(200, found)
        api_version = "/".join(parts[1:3])
        if parts[0] == "apis" and plural not in self.cluster.crds and not built_in.is_served(api_version, plural):
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        if sub == "proxy":
            answer = self.cluster.services.get(name, lambda path: None)("/" + "/".join(rest[3:]))
            if answer is None:
                raise Refusal(503, "ServiceUnavailable", f'no endpoints available for service "{name}"')
            return self._answer(200, answer)
        if sub == "portforward":
            return self._forward(name, int(query["ports"]))
        if sub == "log":
            return self._log(namespace, name, query)
        if self.command == "GET" and query.get("watch") == "true":
            return self._watch(plural, namespace, query)
        return self._crud(plural, namespace, name, query, body)

    def _crud(self, plural: str, namespace: str, name: str, query: dict[str, str], body: Any) -> None:
        cluster = self.cluster
        if self.command == "POST":
            return self._answer(201, cluster.create(plural, namespace, body, query))
        if self.command == "PATCH":
            return self._answer(*cluster.patch(plural, namespace, name, self.headers["Content-Type"], body, query))
        if self.command == "DELETE":
            return self._answer(200, cluster.delete(plural, namespace, name))
        if name:
            if (found := cluster.get(plural, name, namespace)) is None:
                raise _missing(plural, name)
            return self._answer(200, found)
        with cluster.lock:
            found = cluster.select(plural, namespace, query)
            version = str(cluster.version)
        return self._answer(200, {"kind": "List", "metadata": {"resourceVersion": version}, "items": found})

    def _authorize(self, plural: str, name: str, query: dict[str, str]) -> None:
        reading = "watch" if query.get("watch") else "get" if name else "list"
        verb = {"GET": reading, "POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}[self.command]
        if (verb, plural) in self.cluster.forbidden:
            raise Refusal(
                403,
                "Forbidden",
                f'{plural} "{name}" is forbidden: User "system:serviceaccount:team:pipeline-runner" '
                f'cannot {verb} resource "{plural}"',
            )

    def _watch(self, plural: str, namespace: str, query: dict[str, str]) -> None:
        cluster, version = self.cluster, int(query["resourceVersion"])
        deadline = time.monotonic() + float(query.get("timeoutSeconds", "300"))
        self._begin_stream()
        with cluster.lock:
            cut, cluster.cut_watches = cluster.cut_watches > 0, max(0, cluster.cut_watches - 1)
        while time.monotonic() < deadline and not self.server.ending:  # type: ignore[attr-defined]
            with cluster.lock:
                if version < cluster.oldest:
                    gone = Refusal(410, "Expired", "too old resource version").body
                    return self._end_stream({"type": "ERROR", "object": gone})
                news = [c for c in cluster.changes if c.version > version and c.kind == plural]
                if not news:
                    cluster.lock.wait(0.05)
                    continue
            for change in news:
                version = change.version
                if change.found["metadata"].get("namespace", "") == namespace and _selected(change.found, query):
                    line = json.dumps({"type": change.event, "object": change.found}) + "\n"
                    if cut:
                        self._chunk(line[: len(line) // 2].encode())
                        self.close_connection = True
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return None
                    self._chunk(line.encode())
        return self._end_stream(None)

    def _log(self, namespace: str, pod: str, query: dict[str, str]) -> None:
        cluster = self.cluster
        if cluster.get("pods", pod, namespace) is None and pod not in cluster.logs:
            raise _missing("pods", pod)
        self._begin_stream()
        done, since = 0, query.get("sinceTime", "")
        while True:
            with cluster.lock:
                lines = list(cluster.logs.get(pod, []))
                found = cluster.get("pods", pod, namespace)
                ended = found is None or found["status"]["phase"] in ("Succeeded", "Failed")
            chosen = lines[done:]
            if "tailLines" in query:
                chosen = lines[-int(query["tailLines"]) :]
            for stamp, text in chosen:
                if stamp >= since:
                    self._chunk(f"{stamp} {text}\n".encode() if query.get("timestamps") else f"{text}\n".encode())
            done = len(lines)
            if query.get("follow") != "true" or ended or self.server.ending:  # type: ignore[attr-defined]
                return self._end_stream(None)
            with cluster.lock:
                cluster.lock.wait(0.05)

    def _forward(self, pod: str, port: int) -> None:
        if self.headers.get("Sec-WebSocket-Protocol") != port_forwarding.PROTOCOL:
            raise Refusal(400, "BadRequest", "unable to upgrade: unsupported subprotocol")
        if not any(key[0] == "pods" and key[2] == pod for key in self.cluster.objects):
            raise _missing("pods", pod)
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", port_forwarding.accept_key(self.headers["Sec-WebSocket-Key"]))
        self.send_header("Sec-WebSocket-Protocol", port_forwarding.PROTOCOL)
        self.end_headers()
        self.close_connection = True
        port_forwarding.forward(self.connection, self.rfile, port, self.cluster.ports.get((pod, port)))

    def _discovery(self, api_version: str) -> Object:
        group, _, name = api_version.partition("/")
        served = [
            {
                "name": plural,
                "kind": crd["spec"]["names"]["kind"],
                "namespaced": crd["spec"]["scope"] == "Namespaced",
            }
            for plural, crd in self.cluster.crds.items()
            if crd["spec"]["group"] == group and any(v["name"] == name for v in crd["spec"]["versions"])
        ] + built_in.resources(api_version)
        if not served:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        return {"kind": "APIResourceList", "groupVersion": api_version, "resources": served}

    def _openapi(self, parts: list[str]) -> Object:
        crds = list(self.cluster.crds.values())
        if len(parts) == 2:
            paths = {f"apis/{c['spec']['group']}/{v['name']}": {} for c in crds for v in c["spec"]["versions"]}
            return {"paths": paths}
        schemas = {}
        for crd in crds:
            for version in crd["spec"]["versions"]:
                if parts[3:5] == [crd["spec"]["group"], version["name"]]:
                    kind = crd["spec"]["names"]["kind"]
                    mark = [{"group": parts[3], "version": parts[4], "kind": kind}]
                    schema = version["schema"]["openAPIV3Schema"] | {"x-kubernetes-group-version-kind": mark}
                    schemas[f"dev.{kind}"] = schema
        return {"components": {"schemas": schemas}}

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _end_stream(self, event: Object | None) -> None:
        if event:
            self._chunk((json.dumps(event) + "\n").encode())
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *arguments: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    ending = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of every watch."""


@contextmanager
def serving(cluster: Cluster) -> Iterator[Cluster]:
    """Serve `cluster` at `cluster.url`."""
    http = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"cluster": cluster}))
    cluster.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield cluster
    finally:
        http.ending = True
        http.shutdown()
        http.server_close()


def kubeconfig(cluster: Cluster, path: Path) -> Path:
    """Write a kubeconfig that names the server, as `kubectl` would have it."""
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
                "clusters": [{"name": "c", "cluster": {"server": cluster.url}}],
                "users": [{"name": "u", "user": {"token": "a-token"}}],
            }
        )
    )
    return path


def enter(cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `cluster` the one that a kubeconfig names, for the rest of a test."""
    from kubernetes.config import kube_config

    config = str(kubeconfig(cluster, folder / "kubeconfig"))
    monkeypatch.setenv("KUBECONFIG", config)
    # The client reads the variable once, when it is imported.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", config)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
