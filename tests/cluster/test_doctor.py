"""The doctor, on this machine and on API servers over HTTP with the real CRDs, whole and of older releases."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.main import main
from tests.cluster.kubernetes_objects import Cluster, Object
from tests.cluster.kubernetes_server import enter, serving

CRDS = (
    "kserve/serving.kserve.io_inferenceservices.yaml",
    "kserve/serving.kserve.io_clusterservingruntimes.yaml",
    "kserve/serving.kserve.io_clusterstoragecontainers.yaml",
    "kubeflow-trainer/trainer.kubeflow.org_trainjobs.yaml",
    "gateway-api/gateway.networking.k8s.io_httproutes.yaml",
)


@pytest.fixture
def cluster(crds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with serving(Cluster()) as cluster:
        for path in CRDS:
            cluster.install(crds / path)
        enter(cluster, tmp_path, monkeypatch)
        yield cluster


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["doctor", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def levels(found: list[Any], what: str) -> list[str]:
    return [finding["level"] for finding in found if finding["what"] == what]


def test_a_cluster_that_has_it_all_is_well(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = ask(capsys)
    assert code == 0
    assert levels(found["cluster"], "InferenceService") == ["ok", "ok", "ok"]
    assert levels(found["cluster"], "TrainJob") == ["ok", "ok"]
    assert levels(found["cluster"], "ScaledObject") == ["note"]
    assert levels(found["cluster"], "Kubernetes") == ["ok"]
    assert all(level == "ok" for level in levels(found["cluster"], "patch inferenceservices"))


def older(crd: Object) -> None:
    """KServe before 0.20, as far as it differs for us."""
    for version in crd["spec"]["versions"]:
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].pop("canary", None)


def test_an_older_cluster_is_told_what_it_would_refuse(
    cluster: Cluster, crds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.install(crds / CRDS[0], older)
    cluster.crds.pop("clusterstoragecontainers")
    cluster.minor = "28+"
    cluster.forbidden.add(("patch", "inferenceservices"))
    code, found = ask(capsys)
    assert code == 1
    assert levels(found["cluster"], "InferenceService") == ["ok", "ok", "note"]
    (canary,) = [f for f in found["cluster"] if "spec.canary" in f["detail"]]
    assert canary["detail"].startswith("spec.canary is unknown here; component canary-standard")
    assert canary["remedy"] == "install KServe 0.20"
    assert levels(found["cluster"], "ClusterStorageContainer") == ["problem"]
    assert levels(found["cluster"], "Kubernetes") == ["problem"]
    assert levels(found["cluster"], "patch inferenceservices") == ["note"]


def test_this_machine_is_looked_at_without_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = ask(capsys, "--no-cluster")
    assert code == 0
    assert {f["what"]: f["level"] for f in found["this machine"]} == dict.fromkeys(
        ("Python", "torch", "home", "store", "registry"), "ok"
    ) | {"home": levels(found["this machine"], "home")[0]}
    assert "cluster" not in found
    monkeypatch.setenv("FAIRLEAD_REGISTRY", "mysql://user:word@host/db")
    code, found = ask(capsys, "--no-cluster")
    assert code == 1
    assert levels(found["this machine"], "registry") == ["problem"]
    assert "word" not in json.dumps(found)


def test_a_cluster_that_does_not_answer_is_a_finding(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.unavailable = 1_000
    code, found = ask(capsys)
    assert code == 1
    assert levels(found["cluster"], "API server") == ["problem"]
