"""The images, and a project that goes its road through them: a few hundred rows of banking77, a model of one layer."""

import csv
import random
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from components.images import LIGHT_IMAGE, TORCH_IMAGE, USER_ID
from fairlead.cluster.arguments import pipeline_arguments
from fairlead.formats.digests import of_file
from fairlead.project import ProjectConfig
from tests.cluster.kserve import NAMESPACE
from tests.conftest import S3_ENVIRONMENT
from tests.containers.isolation import Image, missing, mounted, run
from tests.containers.network import BUCKET, ENDPOINT, Network, put, with_store
from tests.containers.pods import from_pod, manifest
from tests.containers.steps import Pipeline
from tests.postgres import postgres_server  # noqa: F401

SERVING_IMAGE = LIGHT_IMAGE.replace("light", "serving")
PROJECT = "bank_topics"
NUM_LABELS, NUM_ROWS = 6, 40
# Where the sockets of the registry's server are, here and in the containers.
REGISTRY_PLACE = "/run/postgresql"


@pytest.fixture(scope="session")
def images() -> Iterator[Mapping[str, Image]]:
    """The three images that `make images` built, by name."""
    if reason := missing():
        pytest.skip(f"no containers here: {reason}")
    names = (LIGHT_IMAGE, TORCH_IMAGE, SERVING_IMAGE)
    for name in names:
        if subprocess.run(["buildah", "inspect", "--type", "image", name], capture_output=True).returncode:
            pytest.skip(f"no image {name} here: run make images")
    with ExitStack() as stack:
        yield {name: stack.enter_context(mounted(name)) for name in names}


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory, images: Mapping[str, Image]) -> Iterator[Network]:
    with with_store(tmp_path_factory.mktemp("network")) as network:
        yield network


@pytest.fixture(scope="session")
def values() -> dict[str, str]:
    """What the Secret and the ConfigMap `fairlead` hold."""
    registry = f"postgresql://fairlead@/postgres?host={REGISTRY_PLACE}"
    return {
        "FAIRLEAD_STORE": f"s3://{BUCKET}",
        "FAIRLEAD_REGISTRY": registry,
        "AWS_ENDPOINT_URL": ENDPOINT,
        **S3_ENVIRONMENT,
    }


@pytest.fixture(scope="session")
def sockets(postgres_server: str) -> Mapping[str, Path]:  # noqa: F811
    folder = Path(postgres_server.rpartition("host=")[2])
    # Made for one user; a container has another.
    folder.chmod(0o755)
    return {REGISTRY_PLACE: folder}


@pytest.fixture(scope="session")
def registry(
    images: Mapping[str, Image],
    values: Mapping[str, str],
    sockets: Mapping[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Path]:
    """The sockets of a registry that the manifests' own job has brought to this release."""
    folder = tmp_path_factory.mktemp("registry")
    pod = manifest("registry/schema.yaml", "Job")["spec"]["template"]["spec"]
    job = from_pod(images[LIGHT_IMAGE], pod["containers"][0], USER_ID, values, folder, readable=sockets)
    done = run(job, folder)
    assert done.returncode == 0, done.stdout
    return sockets


@pytest.fixture(scope="session")
def pipeline(
    images: Mapping[str, Image],
    values: Mapping[str, str],
    registry: Mapping[str, Path],
    network: Network,
    datasets: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pipeline:
    folder = tmp_path_factory.mktemp("pipeline")
    rows = _rows(datasets / "banking77" / "train.csv", folder / "rows.csv")
    arguments = pipeline_arguments(_project(put(network, rows, "raw/rows.csv")), source_digest=of_file(rows))
    return Pipeline(images, arguments, values, network, registry, folder)


def _rows(source: Path, path: Path) -> Path:
    """`NUM_ROWS` rows of each of the first `NUM_LABELS` labels."""
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["category"] for row in rows})[:NUM_LABELS]
    chosen = [row for label in labels for row in [r for r in rows if r["category"] == label][:NUM_ROWS]]
    random.Random(0).shuffle(chosen)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"])
        writer.writeheader()
        writer.writerows(chosen)
    return path


def _project(source: str) -> ProjectConfig:
    return ProjectConfig.parse(
        {
            "project": PROJECT,
            "data": {"source": source, "label": "category"},
            "tokenization": {"vocab_size": 500, "max_length": 32},
            "model": {"depth": 1},
            "training": {"epochs": 1, "batch_size": 16, "processes": 2, "threads": 1},
            "evaluation": {"gate": {"accuracy": 0.01}},
            "deploy": {"mode": "direct", "namespace": NAMESPACE, "timeout_seconds": 60},
        }
    )
