"""What every test may use: a home folder of its own, the data sets, and the markers that skip with a reason."""

import inspect
import os
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.formats import dataset

Rows = Sequence[tuple[str, str]]

ROOT = Path(__file__).parent.parent
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test-access-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret-key",
    "AWS_REGION": "us-east-1",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes")


def pytest_configure() -> None:
    """Name a module for the frames that come from no file, as those that started this process.

    kfp asks for the whole stack at each setting of each step, and for such a frame `inspect` looks through all modules
    each time: 6,000 here, 3 s of a core to compile the pipeline once in place of 0.2 s.
    """
    frame = sys._getframe()
    while frame := frame.f_back:
        if not Path(frame.f_code.co_filename).exists():
            inspect.modulesbyfile.setdefault(frame.f_code.co_filename, "builtins")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    containers = "containers" in config.getoption("markexpr")
    reasons = {
        "slow": None if config.getoption("--slow") else "takes minutes: run with --slow",
        "gpu": None if shutil.which("nvidia-smi") else "no NVIDIA GPU here",
        "cluster": _no_cluster(config),
        "containers": None if containers else "runs the images that make images builds: run with -m containers",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _no_cluster(config: pytest.Config) -> str | None:
    """Why the suite for a real cluster is not to run: nobody's cluster is touched because a variable names it."""
    if "cluster" not in config.getoption("markexpr"):
        return "changes a real cluster: run with -m cluster, or make cluster-test"
    return None if os.environ.get("KUBECONFIG") else "no KUBECONFIG in the environment"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own FAIRLEAD_HOME, so that none sees another's store or registry."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FAIRLEAD_HOME", str(folder))
    for name in ("FAIRLEAD_STORE", "FAIRLEAD_REGISTRY", "FAIRLEAD_EVENTS"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def datasets() -> Path:
    """Folder of the real data sets (FAIRLEAD_DATASETS, by default `shared/datasets` beside the checkout)."""
    folder = Path(os.environ.get("FAIRLEAD_DATASETS") or ROOT.parent / "shared" / "datasets")
    if not folder.is_dir():
        pytest.skip("the data sets are not here: set FAIRLEAD_DATASETS")
    return folder


@pytest.fixture(scope="session")
def crds() -> Path:
    """Folder of the CRD schemas (FAIRLEAD_CRDS, by default `shared/crds` beside the checkout)."""
    folder = Path(os.environ.get("FAIRLEAD_CRDS") or ROOT.parent / "shared" / "crds")
    if not folder.is_dir():
        pytest.skip("the CRD schemas are not here: set FAIRLEAD_CRDS")
    return folder


@pytest.fixture(scope="session")
def write_data() -> Callable[[Path, dict[str, Rows]], Path]:
    """Writes a data version of (text, label) rows by split into a folder, as ingest would, and returns the folder."""

    def write(folder: Path, splits: dict[str, Rows]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        summaries = {name: _write_split(folder, name, rows) for name, rows in splits.items()}
        manifest = dataset.DataManifest(
            digest=dataset.dataset_digest({name: (s.num_rows, s.digest) for name, s in summaries.items()}),
            labels=sorted(summaries[dataset.TRAIN].label_counts),
            splits=summaries,
            sources={},
            source_digests={},
            config={},
            findings={},
        )
        dataset.write_manifest(folder, manifest)
        return folder

    return write


def _write_split(folder: Path, name: str, rows: Rows) -> dataset.SplitSummary:
    digest = dataset.RowDigest()
    for text, label in rows:
        digest.add(text, label)
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    lines = list(range(1, len(rows) + 1))
    table = pa.table({"text": texts, "label": labels, "line": lines, "source": ["test"] * len(rows)})
    pq.write_table(table, folder / f"{name}.parquet")
    return dataset.SplitSummary(num_rows=len(rows), digest=digest.digest(), label_counts=dict(Counter(labels)))


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 server: the one at FAIRLEAD_TEST_S3_ENDPOINT (with AWS_* credentials), or moto's over loopback."""
    given = os.environ.get("FAIRLEAD_TEST_S3_ENDPOINT")
    if given:
        yield given
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def make_bucket(s3_endpoint: str) -> Callable[[], str]:
    """Makes an empty bucket with a name of its own, and returns the name."""
    import boto3

    keys = {} if os.environ.get("FAIRLEAD_TEST_S3_ENDPOINT") else S3_ENVIRONMENT
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name=os.environ.get("AWS_REGION", "us-east-1"),
        aws_access_key_id=keys.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=keys.get("AWS_SECRET_ACCESS_KEY"),
    )

    def make() -> str:
        name = f"fairlead-test-{uuid.uuid4().hex}"
        client.create_bucket(Bucket=name)
        return name

    return make


@pytest.fixture
def s3_url(s3_endpoint: str, make_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://` address of an empty bucket of the test's own; the AWS variables are set for it."""
    if not os.environ.get("FAIRLEAD_TEST_S3_ENDPOINT"):
        for name, value in S3_ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    return f"s3://{make_bucket()}"
