"""Fairlead on the cluster that KUBECONFIG names, from nothing to nothing: `make cluster-test`, docs/operations.md.

The parts follow each other in this order; one that cannot run is skipped and says why in the table at the end.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from fairlead.cli.main import main
from fairlead.cluster.endpoint import answering
from fairlead.cluster.trouble import pods_of
from fairlead.errors import FairleadError
from manifests.validation import building
from tests.on_cluster import loads, stores
from tests.on_cluster.adapting import adapted
from tests.on_cluster.conftest import Note
from tests.on_cluster.examining import Found
from tests.on_cluster.forwarding import forwarded, is_ready
from tests.on_cluster.objects import Objects, Unserved, wait
from tests.on_cluster.platforms import (
    LIGHT,
    MANIFESTS,
    POSTGRES,
    SERVING,
    Images,
    Model,
    Platform,
    wait_for_job,
    wait_for_stateful_set,
    why,
)
from tests.on_cluster.releases import Releases
from tests.on_cluster.settings import Settings
from tests.on_cluster.space import Run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]
HTTP, GRPC = 8080, 8081
Command = Callable[..., Any]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command of ours with --json, and returns its exit code and what it printed, or its errors."""

    def run(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main([*words, "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out.strip() else said.err

    return run


def test_the_platform_is_applied_and_the_same_again_changes_nothing(
    objects: Objects, platform: Platform, note: Note
) -> None:
    for (kind, name), reason in platform.left_out.items():
        note(f"without {kind} {name}: {reason}")
    before = {objects.path(one): objects.get(one["apiVersion"], one["kind"], _name(one)) for one in platform.applied}
    for one in platform.applied:
        again = objects.apply(one)
        generation = (before[objects.path(one)] or {})["metadata"].get("generation")
        assert again["metadata"].get("generation") == generation, objects.path(one)
    note(f"{len(before)} objects")


def test_the_doctor_finds_what_the_manifests_need(command: Command, found: Found, run: Run, note: Note) -> None:
    _, said = command("doctor", "--cluster")
    wrong = [f"{finding['what']}: {finding['detail']}" for finding in said["cluster"] if finding["level"] == "problem"]
    if not found.has_storage_container_name or found.kserve == "absent":
        assert wrong, "the doctor should have seen that this KServe is not what the manifests need"
        pytest.skip(f"as it should, the doctor refuses this cluster: {'; '.join(wrong)}")
    assert wrong == []
    note(f"{len(said['cluster'])} findings, none a problem")


def test_the_store_takes_from_each_user_what_its_policy_says(
    objects: Objects, store: str, platform: Platform, settings: Settings, note: Note
) -> None:
    if settings.store:
        pytest.skip("the store is not the suite's own: its users and policies are not ours to change")
    serving, pipelines = (stores.connect(store, name, stores.PASSWORD) for name in ("serving", "pipelines"))
    key = "models/policy_probe/v0001/fairlead.json"
    assert stores.may(stores.put, pipelines, "fairlead", key)
    assert stores.may(serving.stat_object, "fairlead", key)
    assert not stores.may(stores.put, serving, "fairlead", key)
    assert stores.may(stores.put, serving, "fairlead", "predictions/policy_probe")
    assert not stores.may(stores.put, serving, "fairlead-backups", "policy_probe")
    pipelines.remove_object("fairlead", key)
    note("its users by " + ("the Job" if ("Job", "minio-set-up") not in platform.plan.left_out else "this machine"))


def test_the_registry_has_its_schema(objects: Objects, platform: Platform, present: Images, settings: Settings) -> None:
    present.need(POSTGRES, LIGHT)
    assert wait_for_stateful_set(objects, "postgres", settings.seconds) == 1
    assert wait_for_job(objects, "registry-schema", settings.seconds) == 1


@pytest.fixture(scope="session")
def servable(found: Found, present: Images, platform: Platform) -> None:
    """Skips where no model server can run."""
    if found.kserve == "absent":
        pytest.skip("KServe is not there")
    if not found.has_storage_container_name:
        pytest.skip("this KServe is older than 0.20: its InferenceService has no predictor.storageContainerName")
    present.need(SERVING, LIGHT)


@pytest.mark.usefixtures("servable")
def test_a_version_is_deployed(model: Model, run: Run, settings: Settings, command: Command) -> None:
    code, said = _deploy(command, model, run, 1, settings)
    assert code == 0, said
    assert said["version"] == f"{model.project}_v1"
    model.state.add("deployed")


@pytest.mark.usefixtures("servable")
def test_it_answers_by_each_protocol_and_says_which_version_it_is(model: Model, objects: Objects) -> None:
    model.need("deployed")
    said = _ask(objects, model)
    assert {one.version for one in said} == {f"{model.project}_v1"}
    assert {one.digest for one in said} == {model.digests[1]}
    assert len({one.label for one in said}) == 1


@pytest.mark.usefixtures("servable")
def test_status_sees_that_all_agrees(model: Model, command: Command) -> None:
    model.need("deployed")
    code, said = command("status", model.project)
    assert (code, said["answering"], said["differences"]) == (0, f"{model.project}_v1", [])


@pytest.fixture(scope="module")
def releases(versions: Model, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    root = f"s3://{platform.plan.bucket}/models"
    return Releases(tmp_path_factory.mktemp("git"), versions.name, versions.project, root)


@pytest.mark.usefixtures("servable")
def test_a_promotion_is_one_line_and_loses_no_request(
    model: Model,
    objects: Objects,
    platform: Platform,
    present: Images,
    releases: Releases,
    settings: Settings,
    command: Command,
    note: Note,
) -> None:
    model.need("deployed")
    load = loads.start(
        *(objects, "load-promotion", present.plan[LIGHT], model.name),
        *("--until", f"{model.project}_v2", "--seconds", str(settings.seconds)),
    )
    load.started(settings.seconds)
    code, said = command("promote", model.project, "2", "--to", "dev", "--repository", str(releases.folder))
    assert code == 0, said
    changed = [line for line in releases.merge(said["branch"]).splitlines() if re.match(r"[-+] ", line)]
    assert [line[1:].strip() for line in changed] == [
        f"storageUri: s3://{platform.plan.bucket}/models/{model.project}/v000{number}/" for number in (1, 2)
    ]
    _follow(objects, platform, releases, model, 2, settings)
    counted = load.summary(2 * settings.seconds)
    note(_counts(counted))
    assert counted["failed"] == 0, counted
    assert set(counted["versions"]) == {f"{model.project}_v1", f"{model.project}_v2"}
    model.state.add("promoted")


@pytest.mark.usefixtures("servable")
def test_a_rollback_serves_what_was_before(
    model: Model, objects: Objects, platform: Platform, releases: Releases, settings: Settings, command: Command
) -> None:
    model.need("promoted")
    code, said = command("rollback", model.project, "--to", "dev", "--repository", str(releases.folder))
    assert code == 0, said
    releases.merge(said["branch"])
    _follow(objects, platform, releases, model, 1, settings)
    code, said = command("status", model.project, "--to", "dev", "--repository", str(releases.folder))
    assert (code, said["desired"], said["differences"]) == (0, f"{model.project}_v1", [])


@pytest.mark.usefixtures("servable")
def test_a_damaged_version_is_taken_back_and_never_served(
    model: Model, objects: Objects, run: Run, settings: Settings, command: Command, note: Note
) -> None:
    model.need("deployed")
    serving = answering(objects.server, model.project)
    if "promoted" in model.state:
        code, said = _deploy(command, model, run, 3, settings)
        assert code != 0, said
        assert "managed by someone else" in said
    code, said = _deploy(command, model, run, 3, settings, "--force-conflicts")
    assert code == 1, said
    assert "download of the model failed" in said
    assert "is served again" in said
    assert answering(objects.server, model.project) == serving
    note(" ".join(said.split())[-300:])


@pytest.mark.usefixtures("servable")
def test_a_pod_that_is_deleted_under_load_loses_no_request(
    model: Model,
    objects: Objects,
    platform: Platform,
    present: Images,
    releases: Releases,
    settings: Settings,
    note: Note,
) -> None:
    model.need("deployed")
    (wanted,) = adapted(releases.rendered(), platform.plan)
    wanted["spec"]["predictor"] |= {"minReplicas": 2, "maxReplicas": 2}
    objects.apply(wanted)
    pods, reason = _two_pods(objects, model, settings)
    load = loads.start(objects, "load-deletion", present.plan[LIGHT], model.name, "--seconds", "45")
    load.started(settings.seconds)
    objects.server.delete(f"{objects.folder('v1', 'Pod')}/{pods[0]}")
    counted = load.summary(settings.seconds + 60)
    note(_counts(counted))
    if len(pods) < 2:
        pytest.skip(f"there is no room for two replicas ({reason}); with one {_counts(counted)}")
    assert counted["failed"] == 0, counted


def _two_pods(objects: Objects, model: Model, settings: Settings) -> tuple[list[str], str]:
    """Names of the ready pods once there are two, or of the one there is and why there is no other."""

    def look() -> tuple[list[str], str] | None:
        found = pods_of(objects.server, model.name)
        ready = [pod["metadata"]["name"] for pod in found if is_ready(pod)]
        reason = why(objects, [pod for pod in found if not is_ready(pod)][:1]) if len(ready) == 1 else ""
        return (ready, reason) if len(ready) == 2 or "Unschedulable" in reason else None

    return wait(
        look,
        settings.seconds,
        "two pods are ready",
        lambda: why(objects, pods_of(objects.server, model.name)),
    )


def test_the_pipeline_is_taken_by_kubeflow_pipelines(objects: Objects, found: Found, run: Run, note: Note) -> None:
    if not found.optional["Kubeflow Pipelines"]:
        pytest.skip("Kubeflow Pipelines with pipelines in Kubernetes (2.14 or later) is not there")
    for one in building.kustomize(MANIFESTS / "base" / "pipelines"):
        one["metadata"]["namespace"] = run.namespace
        assert objects.apply(one)["metadata"]["uid"]
        note(f"{one['kind']} {one['metadata']['name']}")


def test_the_nodes_runtime_is_taken_by_kubeflow_trainer(objects: Objects, found: Found, run: Run) -> None:
    if not found.optional["Kubeflow Trainer"]:
        pytest.skip("Kubeflow Trainer is not there")
    (runtime,) = building.kustomize(MANIFESTS / "base" / "trainer")
    # The same without a trace outside the namespace.
    runtime["kind"] = "TrainingRuntime"
    runtime["metadata"]["namespace"] = run.namespace
    objects.apply(runtime)
    container = {"image": "fairlead-torch", "command": ["python", "-m", "torch.distributed.run", "--help"]}
    spec = {"runtimeRef": {"kind": "TrainingRuntime", "name": _name(runtime)}, "trainer": {"numNodes": 2, **container}}
    metadata = {"name": "dry-run", "namespace": run.namespace}
    job = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": metadata, "spec": spec}
    taken = objects.apply(job, dry_run=True)
    assert taken["spec"]["runtimeRef"].items() >= spec["runtimeRef"].items()


def test_every_overlay_and_combination_is_taken_by_the_api_server(objects: Objects, run: Run, note: Note) -> None:
    refused, unserved, taken = [], set(), set()
    for build in building.builds(MANIFESTS):
        if not build.name.startswith(("overlays/", "base/monitoring", "base/retraining")):
            continue
        for one in build.objects():
            _as_a_dry_run(one, run)
            key = json.dumps(one, sort_keys=True)
            if key in taken or one["kind"] in ("Pipeline", "PipelineVersion", "Namespace"):
                continue
            taken.add(key)
            try:
                objects.apply(one, dry_run=True)
            except Unserved as absent:
                unserved.add(str(absent))
            except FairleadError as error:
                refused.append(f"{build.name}: {one['kind']} {_name(one)}: {error}")
    for absent in sorted(unserved):
        note(f"not asked: {absent}")
    note(f"{len(taken)} different objects by dry run")
    assert refused == []


def _as_a_dry_run(found: Any, run: Run) -> None:
    """Under a name of its own: what is there already may not be changed everywhere."""
    # Of two runtimes for the same format and with the same priority KServe refuses the second.
    if found["kind"] != "ClusterServingRuntime":
        found["metadata"]["name"] = f"dry-run-{run.id}-{found['metadata']['name']}"[:63].rstrip("-")
    if "namespace" in found["metadata"]:
        found["metadata"]["namespace"] = run.namespace


def _deploy(
    command: Command, model: Model, run: Run, number: int, settings: Settings, *options: str
) -> tuple[int, Any]:
    return command(
        *("deploy", f"{model.project}:{number}", "--direct", "--timeout", str(settings.seconds)),
        *("--storage-container", run.cluster_wide("fairlead-s3")),
        *("--priority-class", run.cluster_wide("fairlead-serving")),
        *options,
    )


def _ask(objects: Objects, model: Model) -> list[Any]:
    # kserve takes seconds to import.
    from tests.on_cluster import asking

    (pod, *_) = [pod["metadata"]["name"] for pod in pods_of(objects.server, model.name) if is_ready(pod)]
    with forwarded(objects.server, pod, HTTP) as http, forwarded(objects.server, pod, GRPC) as grpc:
        return [asking.v1(http, model.name), asking.v2(http, model.name), asking.v2_grpc(grpc, model.name)]


def _follow(
    objects: Objects, platform: Platform, releases: Releases, model: Model, number: int, settings: Settings
) -> None:
    """Apply what git says, as Argo CD would, and wait until that version alone answers."""
    (wanted,) = adapted(releases.rendered(), platform.plan)
    objects.apply(wanted)
    name = f"{model.project}_v{number}"

    def look() -> bool | None:
        pods = [pod for pod in pods_of(objects.server, model.name) if not pod["metadata"].get("deletionTimestamp")]
        found = answering(objects.server, model.project)
        return True if len(pods) == 1 and found is not None and found.version == name else None

    wait(
        look,
        settings.seconds,
        f"{name} answers",
        lambda: why(objects, pods_of(objects.server, model.name)),
    )
    said = _ask(objects, model)
    assert {(one.version, one.digest) for one in said} == {(name, model.digests[number])}


def _counts(counted: dict[str, Any]) -> str:
    return (
        f"{counted['failed']} of {counted['requests']} requests were lost, by version {counted['versions']}, "
        f"longest time without an answer {counted['longest_gap_seconds']} s"
        + (f"; {counted['failures']}" if counted["failures"] else "")
    )


def _name(found: Any) -> str:
    return str(found["metadata"]["name"])
