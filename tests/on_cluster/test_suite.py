"""The suite itself, on an API server over HTTP: on a bare cluster, on one that runs everything, and what it leaves."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fairlead.cluster.api_server import ApiServer
from manifests.validation import building, schemas
from tests.cluster.kubernetes_objects import Cluster, Object, Refusal
from tests.cluster.kubernetes_server import enter, kubeconfig, serving
from tests.conftest import S3_ENVIRONMENT
from tests.on_cluster.examining import examine
from tests.on_cluster.machine import Machine
from tests.on_cluster.objects import Objects
from tests.on_cluster.space import HOLDER, RUN

ROOT = Path(__file__).parent.parent.parent
PARTS = sorted(str(path.relative_to(ROOT)) for path in Path(__file__).parent.glob("test_[0-9]_*.py"))
KSERVE = ("inferenceservices", "servingruntimes", "clusterservingruntimes", "clusterstoragecontainers")
OUTCOME = re.compile(r"^(run|skipped|FAILED|not reached) +(.*?)(?:: (.*))?$")

pytestmark = [
    pytest.mark.skipif(not building.is_here(), reason="neither kustomize nor kubectl is here"),
    # Each starts whole runs of pytest.
    pytest.mark.timeout(1800),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with serving(Cluster(has_namespaces=True)) as cluster:
        node = {"allocatable": {"cpu": "2", "memory": "4Gi"}, "images": []}
        cluster.make("nodes", {"metadata": {"name": "one"}, "status": node})
        kubeconfig(cluster, tmp_path / "kubeconfig")
        yield cluster


@contextmanager
def running(machine: Machine) -> Iterator[None]:
    thread = threading.Thread(target=machine.run)
    thread.start()
    try:
        yield
    finally:
        machine.ending.set()
        thread.join()


def suite(tmp_path: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Exit code, outcome and reason of each part, and all that it printed."""
    command = [sys.executable, "-m", "pytest", "-m", "cluster", "-p", "no:cacheprovider", "-p", "no:xdist"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRLEAD_", "PYTEST"))}
    done = subprocess.run(
        [*command, *PARTS, *arguments],
        cwd=ROOT,
        env=inherited | {"KUBECONFIG": str(tmp_path / "kubeconfig"), "FAIRLEAD_CLUSTER_SECONDS": "60"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    table = done.stdout.partition("on the cluster ===")[2]
    found = [match.groups() for line in table.splitlines() if (match := OUTCOME.match(line))]
    return done.returncode, {name: (outcome, why or "") for outcome, name, why in found}, done.stdout + done.stderr


def left(cluster: Cluster) -> list[tuple[str, str, str]]:
    return [key for key in cluster.objects if key[0] != "nodes"]


def install(cluster: Cluster, crds: Path) -> None:
    for plural in KSERVE:
        cluster.install(crds / "kserve" / f"serving.kserve.io_{plural}.yaml")


def test_a_bare_cluster_is_told_what_was_skipped_and_why(cluster: Cluster, crds: Path, tmp_path: Path) -> None:
    install(cluster, crds)
    seen: list[Object] = []
    cluster.admit.append(lambda old, new: seen.append(new))
    # What a killed run left, and what another machine's holds.
    for name, labels, holder in (
        ("fairlead-test-000001", {RUN: "000001"}, f"{socket.gethostname()} 999999999 1"),
        ("fairlead-test-000002", {RUN: "000002"}, "another-machine 1 1"),
        ("kept", {}, ""),
    ):
        cluster.make("namespaces", {"metadata": {"name": name, "labels": labels, "annotations": {HOLDER: holder}}})
    abandoned = {"metadata": {"name": "fairlead-test-000003-s3", "labels": {RUN: "000003"}}, "spec": {}}
    cluster.make("clusterstoragecontainers", abandoned)
    cluster.make("configmaps", {"metadata": {"name": "one", "namespace": "fairlead-test-000001"}})
    with running(Machine(cluster, set(), tmp_path)):
        # Building all combinations takes as long as all the rest: it is done in the whole run below.
        code, parts, said = suite(tmp_path, "-k", "not every_overlay")

    assert code == 0, said
    assert "removed what an earlier run left: fairlead-test-000001" in said
    assert "removed what an earlier run left: fairlead-test-000003" in said
    assert left(cluster) == [("namespaces", "", "fairlead-test-000002"), ("namespaces", "", "kept")]
    outcomes = {name: outcome for name, (outcome, _) in parts.items()}
    assert [name for name, outcome in outcomes.items() if outcome == "run"] == [
        "the platform is applied and the same again changes nothing",
        "the doctor finds what the manifests need",
    ]
    assert set(outcomes.values()) == {"run", "skipped"}
    assert "Kubernetes 1.36; nodes: one (2 CPU, 4Gi)" in said
    assert "not there: Gateway API, KEDA," in said
    why = {name: reason for name, (_, reason) in parts.items()}
    assert why["a version is deployed"].startswith(
        "the image fairlead-serving is not to be had (fairlead-serving:0.1.0: ErrImagePull"
    )
    assert why["the nodes runtime is taken by kubeflow trainer"] == "Kubeflow Trainer is not there"
    assert "without StatefulSet minio: the image quay.io/minio/minio is not to be had" in said
    assert faults_in(seen, crds) == set()


def faults_in(seen: list[Object], crds: Path) -> set[str]:
    """What the schemas do not allow of what was applied, or would have been."""
    return {f"{one['kind']}: {fault}" for one in seen for fault in schemas.faults(plain(one), crds)}


def plain(found: Object) -> Object:
    """As it was sent: without what the server adds."""
    added = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "deletionTimestamp")
    metadata = {name: value for name, value in found["metadata"].items() if name not in added}
    return {**found, "metadata": metadata}


def test_an_older_kserve_is_told_apart(
    cluster: Cluster, crds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(cluster, tmp_path, monkeypatch)
    objects = Objects(ApiServer.connect("it", "name one"))
    assert examine(objects).kserve == "absent"
    path = crds / "kserve" / "serving.kserve.io_inferenceservices.yaml"
    cluster.install(path)
    assert examine(Objects(objects.server)).has_storage_container_name

    def older(crd: Object) -> None:
        for version in crd["spec"]["versions"]:
            spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
            spec.get("predictor", {}).get("properties", {}).pop("storageContainerName", None)

    cluster.install(path, older)
    found = examine(Objects(objects.server))
    assert (found.kserve, found.has_storage_container_name, found.has_volumes) == ("", False, False)


def test_what_fails_or_is_interrupted_is_cleaned_up(cluster: Cluster, crds: Path, tmp_path: Path) -> None:
    install(cluster, crds)

    def refuse(old: Object | None, new: Object) -> None:
        if new.get("kind") == "ServingRuntime":
            raise Refusal(422, "Invalid", "the runtime is not liked here")

    cluster.admit.append(refuse)
    with running(Machine(cluster, set(), tmp_path)):
        code, parts, said = suite(tmp_path, "-k", "platform_is_applied")
        assert code == 1
        outcome, why = parts["the platform is applied and the same again changes nothing"]
        assert outcome == "FAILED"
        assert "the runtime is not liked here" in why
        assert left(cluster) == [], said

        def interrupt(old: Object | None, new: Object) -> None:
            if new.get("kind") == "ServingRuntime":
                # As Ctrl-C and as what ends a job of CI, in the midst of it.
                os.kill(pid_of_the_suite(tmp_path), signal.SIGTERM)

        cluster.admit[:] = [interrupt]
        code, _, said = suite(tmp_path, "-k", "platform_is_applied")
    assert code == pytest.ExitCode.INTERRUPTED, said
    assert left(cluster) == [], said


def pid_of_the_suite(tmp_path: Path) -> int:
    return next(p.pid for p in psutil.Process().children() if PARTS[0] in p.cmdline())


def test_nobodys_cluster_is_touched_because_a_variable_names_it(cluster: Cluster, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *PARTS]
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert "run with -m cluster, or make cluster-test" in done.stdout
    assert cluster.requests == []


def test_a_cluster_that_does_not_answer_is_a_reason(cluster: Cluster, tmp_path: Path) -> None:
    cluster.unavailable = 1_000
    code, parts, said = suite(tmp_path)
    assert code == 0, said
    assert {outcome for outcome, _ in parts.values()} == {"skipped"}
    assert all("does not answer" in why for _, why in parts.values())


@pytest.mark.slow
def test_it_runs_from_nothing_to_nothing(cluster: Cluster, crds: Path, tmp_path: Path, s3_endpoint: str) -> None:
    """With processes for pods: deployed, asked, promoted and rolled back under load, damaged, deleted, and gone."""
    install(cluster, crds)
    seen: list[Object] = []
    cluster.admit.append(lambda old, new: seen.append(new))
    with running(Machine(cluster, {"fairlead-light:test", "fairlead-serving:test"}, tmp_path)):
        code, parts, said = suite(
            tmp_path,
            FAIRLEAD_IMAGES_TAG="test",
            FAIRLEAD_CLUSTER_SECONDS="240",
            FAIRLEAD_CLUSTER_STORE=s3_endpoint,
            **S3_ENVIRONMENT,
        )
    assert code == 0, said
    ran = {name for name, (outcome, _) in parts.items() if outcome == "run"}
    assert ran >= {
        "a version is deployed",
        "it answers by each protocol and says which version it is",
        "status sees that all agrees",
        "a promotion is one line and loses no request",
        "a rollback serves what was before",
        "a damaged version is taken back and never served",
        "a pod that is deleted under load loses no request",
        "every overlay and combination is taken by the api server",
    }
    assert "not asked: PodMonitor (monitoring.coreos.com/v1) is not served" in said
    assert faults_in(seen, crds) == set()
    assert left(cluster) == []
