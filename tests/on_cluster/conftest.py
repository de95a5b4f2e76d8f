"""What the parts of the suite have in common: cluster, namespace of the run, images, platform, store, versions.

The parts stand in test_1_platform.py to test_5_refusals.py and follow each other in this order: `make cluster-test`,
docs/operations.md. One that cannot run is skipped and says why in the table at the end.
"""

import json
import os
import signal
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from fairlead.cli.main import main
from fairlead.cluster.api_server import ApiServer
from fairlead.errors import FairleadError
from fairlead.formats.model import read_manifest
from fairlead.names import kubernetes_name, version_prefix
from manifests.validation import building
from tests.on_cluster import examining, platforms, space, stores
from tests.on_cluster.adapting import labels_of_namespace
from tests.on_cluster.commands import Command
from tests.on_cluster.examining import Found
from tests.on_cluster.objects import Objects
from tests.on_cluster.platforms import (
    LIGHT,
    MC,
    MINIO,
    SERVING,
    Images,
    Model,
    Platform,
    wait_for_job,
    wait_for_stateful_set,
)
from tests.on_cluster.releases import Releases
from tests.on_cluster.report import REPORT
from tests.on_cluster.settings import Settings
from tests.on_cluster.space import Run

Note = Callable[[str], None]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, None]:
    outcome = yield
    if item.get_closest_marker("cluster") and _is_asked(item.config):
        REPORT.record(item, outcome.get_result())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if REPORT.parts:
        terminalreporter.section("on the cluster")
        for line in REPORT.lines():
            terminalreporter.write_line(line)


def _is_asked(config: pytest.Config) -> bool:
    return "cluster" in config.getoption("markexpr", "")


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Writes a line under the part, into the table."""
    return REPORT.part(request.node).notes.append


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings.from_environment()


@pytest.fixture(scope="session")
def objects() -> Objects:
    """The cluster that KUBECONFIG names; skips when it does not answer."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        pytest.skip("the parts follow each other: run them without -n")
    if not building.is_here():
        pytest.skip("neither kustomize nor kubectl is here")
    try:
        server = ApiServer.connect("the suite", "name one by KUBECONFIG")
        server.get_once("/version")
    except FairleadError as error:
        pytest.skip(f"the cluster that KUBECONFIG names does not answer: {error}")
    return Objects(server)


@pytest.fixture(scope="session")
def found(objects: Objects) -> Found:
    """What the cluster has."""
    found = examining.examine(objects)
    REPORT.head = found.lines()
    return found


@pytest.fixture(scope="session")
def built(settings: Settings) -> list[Any]:
    """What the development overlay is."""
    return platforms.build(settings)


@pytest.fixture(scope="session")
def run(objects: Objects, found: Found, built: list[Any], settings: Settings) -> Iterator[Run]:
    """A run with its namespace, which is removed however the run ends; those of killed runs are removed first."""
    for old in space.leftovers(objects, datetime.now(UTC)):
        REPORT.head.append(f"removed what an earlier run left: {old.namespace}")
        space.remove(objects, old, settings.seconds, REPORT.tail.append)
    run = Run.new()
    # Told to end, it cleans up as on Ctrl-C.
    ends = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(end, lambda *_: signal.raise_signal(signal.SIGINT)) for end in ends]
    try:
        objects.server.namespace = run.namespace
        space.make(objects, run, labels_of_namespace(built))
        yield run
    finally:
        try:
            REPORT.tail += platforms.trouble_of_pods(objects) if REPORT.has_failed else []
        finally:
            space.remove(objects, run, settings.seconds, REPORT.tail.append)
        for end, handler in zip(ends, before, strict=True):
            signal.signal(end, handler)


@pytest.fixture(scope="session")
def present(objects: Objects, run: Run, settings: Settings, built: list[Any]) -> Images:
    """Which images can be used."""
    return platforms.images_of(objects, built, settings)


@pytest.fixture(scope="session")
def platform(
    objects: Objects, found: Found, run: Run, present: Images, settings: Settings, built: list[Any]
) -> Platform:
    """The manifests of the development overlay, as far as this cluster can run them, applied in the run's namespace."""
    out = platforms.left_out(objects, built, present, settings)
    return platforms.apply(objects, platforms.plan_of(run, found, present, out, settings), built, out)


@pytest.fixture(scope="session")
def store(objects: Objects, platform: Platform, present: Images, settings: Settings) -> Iterator[str]:
    """URL of the S3 as this machine reaches it, with buckets, policies and users."""
    if settings.store:
        with stores.entered(objects.server, settings.store, settings.store_here) as url:
            client = stores.connect(url, settings.access_key, settings.secret_key)
            with stores.borrowed(client, platform.plan.bucket, bool(settings.bucket), platform.plan.run.project):
                yield url
        return
    present.need(MINIO)
    wait_for_stateful_set(objects, "minio", settings.seconds)
    with stores.entered(objects.server, platform.store_url, "") as url:
        if MC in present.missing:
            stores.set_up(url)
        else:
            wait_for_job(objects, "minio-set-up", settings.seconds)
        yield url


@pytest.fixture(scope="session")
def versions(run: Run, store: str, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Versions 1 and 2, and version 3 with a damaged file, in the store and in a registry of this machine."""
    # Here, because torch takes seconds to import and most runs of the tests have no cluster.
    from tests.inference.conftest import register_version

    folder = tmp_path_factory.mktemp("versions")
    access_key, secret_key = platform.plan.credentials or ("pipelines", stores.PASSWORD)
    environment = {
        "FAIRLEAD_STORE": f"s3://{platform.plan.bucket}",
        "FAIRLEAD_REGISTRY": f"sqlite:///{folder / 'registry.db'}",
        "FAIRLEAD_NAMESPACE": run.namespace,
        "AWS_ENDPOINT_URL": store,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        made = [register_version(folder, seed, run.project) for seed in (0, 1, 2)]
        client = stores.connect(store, access_key, secret_key)
        key = f"{version_prefix(run.project, 3)}model.safetensors"
        content = bytearray((made[2] / "model.safetensors").read_bytes())
        content[-1] ^= 1
        stores.put(client, platform.plan.bucket, key, bytes(content))
    digests = {number: read_manifest(folder).digest for number, folder in enumerate(made, start=1)}
    return Model(run.project, kubernetes_name(run.project), digests, environment)


@pytest.fixture
def model(versions: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    """The model, with the environment in which commands find it."""
    for name, value in versions.environment.items():
        monkeypatch.setenv(name, value)
    return versions


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main([*words, "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out.strip() else said.err

    return run


@pytest.fixture(scope="session")
def servable(found: Found, present: Images, platform: Platform) -> None:
    """Skips where no model server can run."""
    if found.kserve == "absent":
        pytest.skip("KServe is not there")
    if not found.has_storage_container_name:
        pytest.skip("this KServe is older than 0.20: its InferenceService has no predictor.storageContainerName")
    present.need(SERVING, LIGHT)


@pytest.fixture(scope="session")
def releases(versions: Model, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """The repository that says which version is served."""
    root = f"s3://{platform.plan.bucket}/models"
    return Releases(tmp_path_factory.mktemp("git"), versions.name, versions.project, root)
