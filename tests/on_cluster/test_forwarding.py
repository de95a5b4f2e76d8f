"""Ports that lead to pods, and the counting of what is lost, against small real servers."""

import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from fairlead.cluster.api_server import ApiServer
from tests.cluster.kubernetes_objects import Cluster
from tests.cluster.kubernetes_server import enter, serving
from tests.on_cluster import load
from tests.on_cluster.forwarding import behind, forwarded

PODS = "/api/v1/namespaces/team/pods"


class Model(BaseHTTPRequestHandler):
    """Answers as a version; `fails` answers 503, `drops` closes the connection without one."""

    protocol_version = "HTTP/1.1"
    version, behaviour = "m_v1", "answers"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.behaviour == "drops":
            self.close_connection = True
            return
        content = json.dumps({"model_version": self.version, "bytes": len(body)}).encode()
        self.send_response(503 if self.behaviour == "fails" else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def model() -> Iterator[tuple[type[Model], int]]:
    """A server of its own class, whose attributes say how it behaves, and its port."""
    kind = type("Own", (Model,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield kind, server.server_port
        server.shutdown()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with serving(Cluster()) as cluster:
        yield cluster


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    enter(cluster, tmp_path, monkeypatch)
    cluster.make("pods", {"metadata": {"name": "one", "namespace": "team"}})
    return ApiServer.connect("it", "name one")


def test_a_port_of_a_pod_is_reached_by_several_at_once(
    cluster: Cluster, server: ApiServer, model: tuple[type[Model], int]
) -> None:
    cluster.ports["one", 8080] = model[1]
    # More than one frame, and more than two bytes of length, each way.
    body = b"x" * 200_000
    with forwarded(server, "one", 8080) as address, httpx.Client(trust_env=False, timeout=60) as client:
        for _ in range(3):
            assert client.post(f"http://{address}/", content=body).json() == {"model_version": "m_v1", "bytes": 200_000}
        with httpx.Client(trust_env=False, timeout=60) as other:
            assert other.post(f"http://{address}/", content=b"y").json()["bytes"] == 1
        # The API server is asked by other threads meanwhile, and is still itself.
        assert server.get(f"{PODS}/one")["metadata"]["name"] == "one"
        number = int(address.partition(":")[2])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", number))


@pytest.mark.parametrize("pod", ["one", "another"])
def test_a_port_that_nobody_listens_on_is_closed(pod: str, server: ApiServer) -> None:
    with forwarded(server, pod, 8080) as address, pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{address}/", trust_env=False, timeout=60)


def test_kubectl_forwards_where_no_websocket_is_taken(
    cluster: Cluster, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In kubectl's place a program that says what it was asked, and then waits to be ended.
    program = tmp_path / "kubectl"
    program.write_text(
        f'#!/bin/sh\necho "$*" >{tmp_path}/asked\necho "Forwarding from 127.0.0.1:4711 -> 8080"\nexec sleep 600\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    cluster.forbidden.add(("get", "pods"))
    with forwarded(server, "one", 8080) as address:
        assert address == "127.0.0.1:4711"
    asked = (tmp_path / "asked").read_text()
    assert asked == "--namespace team port-forward --address 127.0.0.1 pod/one :8080\n"


def test_a_service_leads_to_a_ready_pod_and_its_named_port(cluster: Cluster, server: ApiServer) -> None:
    spec = {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "http1"}, {"port": 90}]}
    cluster.make("services", {"metadata": {"name": "a", "namespace": "team"}, "spec": spec})
    with pytest.raises(AssertionError, match="no pod behind the service a is ready"):
        behind(server, "a", 80)
    containers = [{"name": "c", "ports": [{"name": "http1", "containerPort": 8080}]}]
    for name, ready in (("b-0", "False"), ("b-1", "True")):
        status = {"conditions": [{"type": "Ready", "status": ready}]}
        metadata = {"name": name, "namespace": "team", "labels": {"app": "a"}}
        cluster.make("pods", {"metadata": metadata, "spec": {"containers": containers}, "status": status})
    assert behind(server, "a", 80) == ("b-1", 8080)
    assert behind(server, "a", 90) == ("b-1", 90)


def counted(port: int, *arguments: str, **behaviours: str) -> tuple[int, dict[str, object]]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = load.main(["--url", f"http://127.0.0.1:{port}/", "--pause", "0", *arguments])
    return code, json.loads(printed.getvalue().splitlines()[-1])


def test_load_counts_what_is_answered_until_another_version_answers(model: tuple[type[Model], int]) -> None:
    kind, port = model

    def promote() -> None:
        time.sleep(0.3)
        kind.version = "m_v2"

    threading.Thread(target=promote).start()
    code, found = counted(port, "--until", "m_v2", "--then", "0.2", "--seconds", "60")
    assert (code, found["failed"], found["failures"]) == (0, 0, {})
    versions = found["versions"]
    assert isinstance(versions, dict)
    assert set(versions) == {"m_v1", "m_v2"}
    assert sum(versions.values()) == found["requests"]


@pytest.mark.parametrize(("behaviour", "reason"), [("fails", "status 503"), ("drops", "RemoteDisconnected")])
def test_load_counts_what_is_lost(behaviour: str, reason: str, model: tuple[type[Model], int]) -> None:
    kind, port = model

    def misbehave() -> None:
        time.sleep(0.3)
        kind.behaviour = behaviour
        time.sleep(0.3)
        kind.behaviour = "answers"

    threading.Thread(target=misbehave).start()
    code, found = counted(port, "--seconds", "1")
    failures = found["failures"]
    assert isinstance(failures, dict)
    assert code == 0
    assert any(text.startswith(reason) for text in failures), failures
    assert found["failed"] == sum(failures.values()) > 0
    assert found["requests"] == found["failed"] + sum(dict(found["versions"]).values())  # type: ignore[call-overload]


def test_load_without_any_answer_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    code, found = counted(port, "--seconds", "0.2")
    assert (code, found["requests"]) == (1, 0)
