"""Asking a model which version it serves from outside the cluster, where policies keep the API server's proxy out."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.main import main
from fairlead.cluster import endpoint, rollout
from fairlead.cluster.api_server import ApiServer
from fairlead.cluster.deployment import deploy
from fairlead.cluster.endpoint import PORT, Answering, Endpoint
from fairlead.cluster.inference_service import inference_service
from fairlead.errors import ClusterError
from tests.cluster.kserve import SERVICE_LABEL
from tests.cluster.kubernetes_objects import Cluster, Refusal
from tests.cluster.kubernetes_server import enter, serving
from tests.web_server import Site, WebServer

ROOT = "s3://fairlead/models"
PROXY, PATH = "library-docs-predictor:80", "/v2/models/library-docs"
SAID = {"name": "library-docs", "versions": ["library_docs_v1"], "parameters": {"digest": "sha256:1"}}
LABELS = {"app": "isvc.library-docs-predictor", SERVICE_LABEL: "library-docs"}


def refused(path: str) -> None:
    """What an API server says that a policy keeps out."""
    raise Refusal(503, "ServiceUnavailable", "error trying to reach service: dial tcp 10.0.0.7:8080: i/o timeout")


@pytest.fixture
def cluster(crds: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A model's pod is ready and answers, and its Service is not let through."""
    monkeypatch.setattr(rollout, "SECONDS_BETWEEN_LOOKS", 0.02)
    with serving(Cluster()) as cluster, WebServer(Site({PATH: json.dumps(SAID).encode()})) as web:
        cluster.install(crds / "kserve" / "serving.kserve.io_inferenceservices.yaml")
        make_pod(cluster, "one", "True")
        cluster.ports["one", PORT] = int(web.url.rpartition(":")[2])
        cluster.services[PROXY] = refused
        yield cluster


def make_pod(cluster: Cluster, name: str, ready: str) -> None:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
    cluster.make("pods", {"metadata": {"name": name, "namespace": "team", "labels": LABELS}, "status": status})


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    enter(cluster, tmp_path, monkeypatch)
    return ApiServer.connect("it", "name one")


def asked(cluster: Cluster, part: str) -> int:
    """How many requests have `part` in their path."""
    return sum(part in path for _, path in cluster.requests)


def test_a_ready_pod_is_asked_where_the_proxy_is_kept_out(cluster: Cluster, server: ApiServer) -> None:
    make_pod(cluster, "another", "False")
    model = Endpoint(server, "library_docs")
    for _ in range(2):
        assert model.ask() == Answering("library_docs_v1", "sha256:1")
        assert model.blocked == ""
    # That the proxy is kept out is found once: a policy that drops packets costs seconds.
    assert (asked(cluster, "/proxy/"), asked(cluster, "/pods/one/portforward")) == (1, 2)


def test_a_proxy_whose_packets_are_dropped_is_waited_for_once(
    cluster: Cluster, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "SECONDS_TO_ANSWER", 0.2)
    ended = threading.Event()
    cluster.services[PROXY] = lambda path: {} if ended.wait(60) else None
    assert Endpoint(server, "library_docs").ask() == Answering("library_docs_v1", "sha256:1")
    ended.set()
    assert asked(cluster, "/proxy/") == 1


def test_without_a_ready_pod_no_way_is_blocked(cluster: Cluster, server: ApiServer) -> None:
    cluster.delete("pods", "team", "one")
    make_pod(cluster, "two", "False")
    model = Endpoint(server, "library_docs")
    assert (model.ask(), model.blocked) == (None, "")
    assert asked(cluster, "/portforward") == 0


def test_a_service_without_endpoints_is_not_circumvented(cluster: Cluster, server: ApiServer) -> None:
    """A pod that no Service leads to serves nobody, ready or not."""
    del cluster.services[PROXY]
    model = Endpoint(server, "library_docs")
    assert (model.ask(), model.blocked) == (None, "")
    assert asked(cluster, "/portforward") == 0


BLOCKED = {
    "no right": (
        lambda cluster: cluster.forbidden.add(("get", "pods")),
        "no port is forwarded (port 8080 of pod one: Handshake status 403 Forbidden)",
    ),
    "nobody listens": (
        lambda cluster: cluster.ports.clear(),
        "no port is forwarded (port 8080 of pod one does not answer (",
    ),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_what_stands_in_the_way_is_said_in_a_line(
    name: str, cluster: Cluster, server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    block, reason = BLOCKED[name]
    block(cluster)
    with pytest.raises(ClusterError) as failed:
        deploy(server, "library_docs", 1, ROOT, 1)
    assert "pod one is ready and cannot be asked from here" in str(failed.value)
    assert reason in str(failed.value)
    served: Any = {**inference_service("library_docs", 1, ROOT)}
    served["metadata"]["namespace"] = "team"
    served["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    cluster.make("inferenceservices", served)
    assert main(["status", "library_docs"]) == 1
    *_, before, last = capsys.readouterr().out.splitlines()
    assert before == "the endpoint does not answer"
    assert reason in last


def test_being_told_to_end_is_not_taken_for_a_failure(cluster: Cluster, server: ApiServer) -> None:
    main_thread = threading.get_ident()

    class Ending(list[tuple[str, str]]):
        def append(self, request: tuple[str, str]) -> None:
            super().append(request)
            if "/portforward" in request[1]:
                signal.pthread_kill(main_thread, signal.SIGTERM)

    def end(*_: object) -> None:
        raise SystemExit(143)

    cluster.requests = Ending()
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit):
            Endpoint(server, "library_docs").ask()
    finally:
        signal.signal(signal.SIGTERM, before)
