"""Every step of the pipeline in its container, on real text; and then a model server, on what they have made."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from components.images import LIGHT_IMAGE, USER_ID
from fairlead.cluster.arguments import STAGES
from fairlead.names import CPUS_ENV
from tests.containers.conftest import PROJECT, SERVING_IMAGE
from tests.containers.isolation import Container, Image, run, started
from tests.containers.looking import looked_around
from tests.containers.network import BUCKET, Network
from tests.containers.pods import from_pod, manifest
from tests.containers.steps import ALONE, Pipeline

pytestmark = [pytest.mark.containers, pytest.mark.postgres, pytest.mark.timeout(900)]

# Deploy asks a cluster: test_deploy.py.
STEPS = [stage for stage in STAGES if stage != "deploy"]
# Of a model server: KServe's pod mounts the version there.
MODEL = "/mnt/models"
SERVING_USER = 1000
MODEL_NAME, TEXT = "bank-topics", "I am still waiting on my card?"


@pytest.mark.parametrize("stage", STEPS)
def test_a_step_runs_with_what_its_manifest_grants(pipeline: Pipeline, stage: str) -> None:
    done = pipeline.run(stage)
    assert done.returncode == 0, done.stdout
    assert any((pipeline.folder / stage).iterdir())
    assert not [line for line in done.stdout.splitlines() if "Permission denied" in line or "Read-only" in line]


@pytest.mark.parametrize("stage", STEPS)
def test_what_a_step_reaches(pipeline: Pipeline, stage: str, tmp_path: Path) -> None:
    assert pipeline.run(stage).returncode == 0
    container = pipeline.container(stage)
    found = looked_around(container, tmp_path)
    assert found["user"] == [USER_ID, USER_ID]
    assert set(found["writable"]) == {*container.writable, "/dev/shm"}
    # Nothing but its own loopback; a step with a network has the store's.
    assert found["interfaces"] == ["lo"] and found["routes"] == []
    assert (container.network is None) == (stage in ALONE)


def test_training_has_the_processes_and_cores_that_its_container_is_granted(pipeline: Pipeline, tmp_path: Path) -> None:
    assert pipeline.run("train").returncode == 0
    record = json.loads((pipeline.folder / "train" / "output" / "training.json").read_text())
    assert record["environment"]["world_size"] == 2
    container = pipeline.container("train")
    assert container.env[CPUS_ENV] == "2"
    command = ("python", "-c", "from fairlead.machine import physical_cores; print(physical_cores())")
    done = run(replace(container, command=command, env={**container.env, CPUS_ENV: "1500m"}), tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n")


@pytest.fixture(scope="module")
def version(
    pipeline: Pipeline,
    images: Mapping[str, Image],
    values: Mapping[str, str],
    network: Network,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The registered version, fetched by the container that fetches versions for KServe."""
    assert pipeline.run("register").returncode == 0
    folder = tmp_path_factory.mktemp("fetch")
    spec = manifest("serving/storage-container.yaml", "ClusterStorageContainer")["spec"]["container"]
    address = {"args": [f"s3://{BUCKET}/models/{PROJECT}/v0001/", MODEL]}
    mounted = {"volumeMounts": [{"name": "models", "mountPath": MODEL}]}
    # KServe adds the credentials of the ServiceAccount.
    given = [{"name": name, "value": value} for name, value in values.items() if name.startswith("AWS_")]
    keys = {"env": [*spec.get("env", []), *given]}
    container = from_pod(
        images[LIGHT_IMAGE], spec | address | mounted | keys, SERVING_USER, {}, folder, network=network.path
    )
    done = run(container, folder)
    assert done.returncode == 0, done.stdout
    return folder / "models"


def test_a_server_answers_at_both_doors_without_a_network(
    version: Path, images: Mapping[str, Image], tmp_path: Path
) -> None:
    server = serving(images[SERVING_IMAGE], version, tmp_path)
    with started(server, tmp_path) as running:
        answers = json.loads(asked(running.network))
        code = running.end()
    assert answers["rest"] == answers["grpc"]
    assert answers["rest"][1].startswith(f"{PROJECT}_v1")
    assert code == 0, running.log.read_text()


def test_what_a_server_reaches(version: Path, images: Mapping[str, Image], tmp_path: Path) -> None:
    server = serving(images[SERVING_IMAGE], version, tmp_path)
    found = looked_around(server, tmp_path)
    assert found["user"] == [SERVING_USER, SERVING_USER]
    assert set(found["writable"]) == {"/tmp", "/dev/shm"}
    assert found["interfaces"] == ["lo"]


def asked(network: Path) -> str:
    """What a client on that network is answered."""
    return Network(network).run(sys.executable, "-m", "tests.containers.client", MODEL_NAME, TEXT)


def serving(image: Image, version: Path, folder: Path) -> Container:
    """A model server as the runtime's manifest says, beside KServe's volume with the version."""
    spec = manifest("serving/runtime.yaml", "ClusterServingRuntime")["spec"]["containers"][0]
    named = spec | {"args": [argument.replace("{{.Name}}", MODEL_NAME) for argument in spec["args"]]}
    return from_pod(image, named, SERVING_USER, {}, folder, readable={MODEL: version})
