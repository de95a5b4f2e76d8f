"""A small Kubernetes API server over real HTTP: objects, patches, watches and logs, and CRDs that it enforces.

It keeps what the real one promises its clients, and of watches that one from too long ago is told 410 (the objects:
kubernetes_objects.py). What happens to an object beyond that is a controller's affair (trainer.py, kserve.py).
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from tests.cluster import port_forwarding
from tests.cluster.kubernetes_discovery import discovery, openapi, serves
from tests.cluster.kubernetes_objects import Cluster, Object, Refusal, missing
from tests.cluster.kubernetes_rules import selected


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
            if url.path == "/readyz":
                if self.cluster.starting > 0:
                    raise Refusal(500, "InternalError", "[-]informer-sync failed: reason withheld")
                return self._answer(200, "ok")
            if self.cluster.starting > 0:
                self.cluster.starting -= 1
                raise Refusal(403, "Forbidden", f"{url.path} is forbidden: User cannot do anything yet")
            self._route(url.path.strip("/").split("/"), query, json.loads(content) if content else None)
        except Refusal as refusal:
            self._answer(refusal.status, refusal.body)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _handle

    def _route(self, parts: list[str], query: dict[str, str], body: Any) -> None:
        if parts == ["version"]:
            return self._answer(200, {"major": "1", "minor": self.cluster.minor})
        if (parts[0], len(parts)) in (("apis", 3), ("api", 2)):
            return self._answer(200, discovery(self.cluster, "/".join(parts[1:])))
        if parts[-1] == "selfsubjectaccessreviews":
            wanted = body["spec"]["resourceAttributes"]
            allowed = (wanted["verb"], wanted["resource"]) not in self.cluster.forbidden
            return self._answer(201, {**body, "status": {"allowed": allowed}})
        if parts[0] == "openapi":
            return self._answer(200, openapi(self.cluster, parts))
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if rest and rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, sub = (*rest, "", "", "")[:3]
        self._authorize(plural, name, query)
        if plural == "customresourcedefinitions":
            if (found := self.cluster.crds.get(name.partition(".")[0])) is None:
                raise missing(plural, name)
            return self._answer(200, found)
        api_version = "/".join(parts[1:3])
        if parts[0] == "apis" and not serves(self.cluster, api_version, plural):
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
                raise missing(plural, name)
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
                if change.found["metadata"].get("namespace", "") == namespace and selected(change.found, query):
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
            raise missing("pods", pod)
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
            raise missing("pods", pod)
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", port_forwarding.accept_key(self.headers["Sec-WebSocket-Key"]))
        self.send_header("Sec-WebSocket-Protocol", port_forwarding.PROTOCOL)
        self.end_headers()
        self.close_connection = True
        port_forwarding.forward(self.connection, self.rfile, port, self.cluster.ports.get((pod, port)))

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
def serving(cluster: Cluster, listener: socket.socket | None = None) -> Iterator[Cluster]:
    """Serve `cluster` at `cluster.url`, or on a socket that listens, which may be one of TLS."""
    handler = type("Bound", (Handler,), {"cluster": cluster})
    http = _Server(("127.0.0.1", 0), handler, bind_and_activate=listener is None)
    if listener is not None:
        http.socket.close()
        http.socket = listener
    cluster.url = f"http://127.0.0.1:{http.socket.getsockname()[1]}"
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
