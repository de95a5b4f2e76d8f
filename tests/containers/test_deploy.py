"""The deploy step in its container, as the pipeline calls it: against a cluster's API server, and a model's Service."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.images import USER_ID
from fairlead.cluster.inference_service import served_uri
from fairlead.names import kubernetes_name
from tests.cluster.kserve import NAMESPACE
from tests.containers.conftest import PROJECT
from tests.containers.in_cluster import running
from tests.containers.isolation import Container, run
from tests.containers.looking import looked_around
from tests.containers.network import BUCKET, Network
from tests.containers.steps import Pipeline

pytestmark = [pytest.mark.containers, pytest.mark.postgres, pytest.mark.timeout(900)]

NAME = kubernetes_name(PROJECT)
FIRST = f"s3://{BUCKET}/models/{PROJECT}/v0001/"
CRASHED = {"terminated": {"exitCode": 2, "reason": "Error", "message": "the digest differs"}}
BROKEN = {"containerStatuses": [{"name": "kserve-container", "restartCount": 3, "state": CRASHED}]}


@pytest.fixture(scope="module")
def deployed(
    pipeline: Pipeline, network: Network, crds: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """The pipeline once it has deployed what it registered, on a cluster whose second version crashes."""
    folder = tmp_path_factory.mktemp("kubernetes")

    def digest(version: str) -> str:
        return str(registered(pipeline)["digest"])

    with running(network, crds, folder, NAME, {"v0002": BROKEN}, digest) as kubernetes:
        pipeline.kubernetes = kubernetes
        done = pipeline.run("deploy")
        assert done.returncode == 0, done.stdout
        yield pipeline


def registered(pipeline: Pipeline) -> dict[str, Any]:
    """What register said of its version."""
    return dict(json.loads((pipeline.folder / "register" / "output" / "version.json").read_text()))


def service(pipeline: Pipeline) -> dict[str, Any]:
    """The InferenceService as the cluster has it."""
    assert pipeline.kubernetes is not None
    found = pipeline.kubernetes.cluster.get("inferenceservices", NAME, NAMESPACE)
    assert found is not None
    return found


def test_it_serves_the_registered_version_and_the_same_again_changes_nothing(
    deployed: Pipeline, tmp_path: Path
) -> None:
    outcome = json.loads((deployed.folder / "deploy" / "output" / "deployment.json").read_text())
    wanted = {"mode": "direct", "version": f"{PROJECT}_v1", "digest": registered(deployed)["digest"]}
    assert outcome == {**wanted, "namespace": NAMESPACE}
    before = service(deployed)
    assert served_uri(before) == FIRST
    done = run(deployed.container("deploy"), tmp_path)
    assert done.returncode == 0, done.stdout
    assert service(deployed)["metadata"]["generation"] == before["metadata"]["generation"]
    # It asks the Service from its own pod, which the policies let in.
    assert deployed.kubernetes is not None
    assert not [path for _, path in deployed.kubernetes.cluster.requests if "/proxy/" in path or "portforward" in path]


def test_a_version_that_does_not_come_up_is_taken_back(deployed: Pipeline, tmp_path: Path) -> None:
    done = run(of_a_second_version(deployed, tmp_path), tmp_path)
    assert done.returncode == 1, done.stdout
    assert "kserve-container failed (Error, exit code 2: the digest differs)" in done.stdout
    assert f"{FIRST} is served again" in done.stdout
    assert served_uri(service(deployed)) == FIRST


def of_a_second_version(deployed: Pipeline, folder: Path) -> Container:
    """The step when register has left another version."""
    output = folder / "register" / "output"
    output.mkdir(parents=True)
    (output / "version.json").write_text(
        json.dumps({**registered(deployed), "name": f"{PROJECT}_v2", "number": 2, "digest": "sha256:2"})
    )
    output.parent.chmod(0o755)
    container = deployed.container("deploy")
    return replace(container, readable={**container.readable, deployed.place("register"): output.parent})


def test_what_it_reaches(deployed: Pipeline, tmp_path: Path) -> None:
    container = deployed.container("deploy")
    found = looked_around(container, tmp_path)
    assert found["user"] == [USER_ID, USER_ID]
    assert set(found["writable"]) == {*container.writable, "/dev/shm"}
    assert found["interfaces"] == ["lo"] and found["routes"] == []
