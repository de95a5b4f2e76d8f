"""Deploying without GitOps, against an API server over HTTP that enforces the CRD of InferenceService."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.cluster import deployment, rollout
from fairlead.cluster.api_server import ApiServer
from fairlead.cluster.deployment import deploy
from fairlead.cluster.endpoint import Answering, Endpoint
from fairlead.cluster.inference_service import inference_service, served_uri
from fairlead.errors import ClusterError, ConfigError, Conflict, IntegrityError
from manifests.validation import building
from tests.cluster.kserve import KServe
from tests.cluster.kubernetes_objects import Cluster, Refusal, now
from tests.cluster.kubernetes_server import enter, serving

ROOT = "s3://fairlead/models"
MANIFESTS = Path(__file__).parent.parent.parent / "manifests"
SERVICES = "inferenceservices"


@pytest.fixture
def cluster(crds: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    for module in (deployment, rollout):
        monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.02)
    with serving(Cluster()) as cluster:
        cluster.install(crds / "kserve" / "serving.kserve.io_inferenceservices.yaml")
        yield cluster


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    enter(cluster, tmp_path, monkeypatch)
    return ApiServer.connect("it", "name one")


@contextmanager
def kserve(cluster: Cluster, **broken: Any) -> Iterator[KServe]:
    controller = KServe(cluster, broken)
    thread = threading.Thread(target=controller.run, daemon=True)
    thread.start()
    try:
        yield controller
    finally:
        controller.ending.set()
        thread.join(10)


def uri(cluster: Cluster) -> str | None:
    found = cluster.get("inferenceservices", "library-docs")
    return served_uri(found) if found else None


@pytest.mark.skipif(not building.is_here(), reason="neither kustomize nor kubectl is here")
def test_it_is_the_object_of_the_manifests() -> None:
    (built,) = building.kustomize(MANIFESTS / "overlays" / "prod" / "models" / "library-docs")
    built["metadata"].pop("namespace")
    assert inference_service("library_docs", 1, ROOT) == built


def test_a_version_is_deployed_when_it_answers_itself(cluster: Cluster, server: ApiServer) -> None:
    with kserve(cluster):
        assert Endpoint(server, "library_docs").ask() is None
        assert deploy(server, "library_docs", 1, ROOT, 30).version == "library_docs_v1"
        assert deploy(server, "library_docs", 2, ROOT, 30).version == "library_docs_v2"
        before = cluster.get("inferenceservices", "library-docs")
        # The same again changes nothing.
        assert deploy(server, "library_docs", 2, ROOT, 30).version == "library_docs_v2"
    after = cluster.get("inferenceservices", "library-docs")
    assert before is not None
    assert after is not None
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert [m["manager"] for m in after["metadata"]["managedFields"]] == ["fairlead"]


CRASHED = {"terminated": {"exitCode": 2, "reason": "Error", "message": "digest differs"}}
BROKEN = {
    "a crash": (
        {"containerStatuses": [{"name": "kserve-container", "restartCount": 3, "state": CRASHED}]},
        "kserve-container failed (Error, exit code 2: digest differs); its last lines: error: v0002 is damaged",
    ),
    "no download": (
        {"initContainerStatuses": [{"name": "storage-initializer", "restartCount": 2, "state": CRASHED}]},
        "download of the model failed",
    ),
    "no image": (
        {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no x"}}}]},
        "ImagePullBackOff: no x",
    ),
    "no room": (
        {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
            ]
        },
        "the endpoint still answers as library_docs_v1 after 1 s (pod library-docs-v0002: Unschedulable: 0/3 nodes)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_come_up_is_taken_back_with_the_reason(name: str, cluster: Cluster, server: ApiServer) -> None:
    status, reason = BROKEN[name]
    said: list[str] = []
    with kserve(cluster, v0002=status):
        deploy(server, "library_docs", 1, ROOT, 30)
        cluster.log("library-docs-v0002", "error: v0002 is damaged")
        with pytest.raises(ClusterError) as failed:
            deploy(server, "library_docs", 2, ROOT, 1, said.append)
    assert reason in str(failed.value)
    assert f"{ROOT}/library_docs/v0001/ is served again" in str(failed.value)
    assert uri(cluster) == f"{ROOT}/library_docs/v0001/"
    assert len(said) == 2, "the reason is said once, however often it is seen"


def test_a_first_version_that_fails_leaves_nothing(cluster: Cluster, server: ApiServer) -> None:
    for owner, message in (
        ("ReplicaSet library-docs-predictor-6f4", "exceeded quota: fairlead"),
        # Another's, and later: it is none of this model's business.
        ("StatefulSet minio", "no such account"),
    ):
        kind, name = owner.split()
        event = {"type": "Warning", "reason": "FailedCreate", "message": message, "lastTimestamp": now()}
        metadata = {"name": f"{name}.1", "namespace": "team"}
        cluster.make("events", {**event, "metadata": metadata, "involvedObject": {"kind": kind, "name": name}})
    with kserve(cluster, v0001=None), pytest.raises(ClusterError, match="no pod was made: exceeded quota: fairlead"):
        deploy(server, "library_docs", 1, ROOT, 1)
    assert uri(cluster) is None


def test_without_a_controller_the_reason_is_that_nothing_takes_it_up(
    cluster: Cluster, server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    from fairlead.cli.main import main

    with pytest.raises(ClusterError, match=r"does not answer after 1 s \(nothing has taken up the InferenceService:"):
        deploy(server, "library_docs", 1, ROOT, 1)
    assert uri(cluster) is None
    apply_as(cluster, "argocd-controller", 1)
    assert main(["status", "library_docs"]) == 1
    assert "nothing has taken up the InferenceService: see whether KServe's controller runs" in capsys.readouterr().out


def test_a_quota_that_is_full_is_the_reason_while_the_version_before_serves(
    cluster: Cluster, server: ApiServer
) -> None:
    owner = {"kind": "ReplicaSet", "name": "library-docs-predictor-6f4"}
    event = {"metadata": {"name": "e", "namespace": "team"}, "type": "Warning", "reason": "FailedCreate"}

    def refused(line: str) -> None:
        if line.startswith("applied"):
            about = {"involvedObject": owner, "lastTimestamp": now(), "message": "exceeded quota: fairlead"}
            cluster.make("events", {**event, **about})

    with kserve(cluster, v0002=None):
        deploy(server, "library_docs", 1, ROOT, 30)
        with pytest.raises(ClusterError, match=r"still answers as library_docs_v1 .*\(no pod was made: exceeded quota"):
            deploy(server, "library_docs", 2, ROOT, 2, refused)


def test_what_the_cluster_refuses_is_said_and_changes_nothing(cluster: Cluster, server: ApiServer) -> None:
    cluster.forbidden.add(("patch", "inferenceservices"))
    with pytest.raises(ConfigError, match="may not do what it must"):
        deploy(server, "library_docs", 1, ROOT, 1)
    cluster.forbidden.clear()

    def refuse(old: Any, new: Any) -> None:
        raise Refusal(422, "Invalid", "no such runtime")

    cluster.admit.append(refuse)
    with pytest.raises(ConfigError, match="no such runtime"):
        deploy(server, "library_docs", 1, ROOT, 1)
    assert uri(cluster) is None


def test_an_api_server_that_stumbles_is_asked_again(cluster: Cluster, server: ApiServer) -> None:
    cluster.unavailable = 2
    with kserve(cluster):
        assert deploy(server, "library_docs", 1, ROOT, 30).version == "library_docs_v1"


def test_an_api_server_that_starts_refuses_nobody_for_good(cluster: Cluster, server: ApiServer) -> None:
    restarts = iter([2])

    def ask() -> Any:
        # It is started again while the version comes up: the endpoint and the watches are refused, too.
        cluster.starting = next(restarts, cluster.starting)
        return Endpoint(server, "library_docs").ask()

    cluster.starting, cluster.cut_watches = 2, 3
    with kserve(cluster):
        assert deploy(server, "library_docs", 1, ROOT, 30, ask=ask).version == "library_docs_v1"
    assert (cluster.starting, noted(cluster)) == (0, None)


def test_a_store_in_a_folder_is_no_store_for_pods(server: ApiServer) -> None:
    with pytest.raises(ConfigError, match="FAIRLEAD_STORE"):
        deploy(server, "library_docs", 1, "/home/me/store/models", 1)


def test_the_command_needs_a_word_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    from fairlead.cli.main import main

    assert main(["deploy", "library_docs:1"]) == 2
    assert "use fairlead promote" in capsys.readouterr().err


def test_status_compares_git_cluster_and_endpoint(
    cluster: Cluster, server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fairlead.cli.main import main

    repository = tmp_path / "repository"
    shutil.copytree(MANIFESTS / "overlays", repository / "manifests" / "overlays")
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Begin"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.test"]
        subprocess.run(["git", "-C", str(repository), *identity, *arguments], check=True)

    def ask() -> tuple[int, dict[str, Any]]:
        code = main(["status", "library_docs", "--to", "prod", "--repository", str(repository), "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, found = ask()
    assert (code, found["desired"], found["applied"]) == (1, "library_docs_v1", None)
    with kserve(cluster, v0003=BROKEN["a crash"][0]):
        deploy(server, "library_docs", 1, ROOT, 30)
        assert ask() == (0, found | {"applied": "library_docs_v1", "answering": "library_docs_v1", "differences": []})
        deploy(server, "library_docs", 2, ROOT, 30)
        code, found = ask()
        assert (code, found["answering"]) == (1, "library_docs_v2")
        assert found["differences"] == [
            "git says library_docs_v1 and the cluster has library_docs_v2: it has not followed yet"
        ]
        # Somebody applies a version that crashes: what served goes on, and the reason is there.
        broken = f"{ROOT}/library_docs/v0003/"
        cluster.update(
            "inferenceservices",
            "library-docs",
            lambda o: o["spec"]["predictor"]["model"].update(storageUri=broken),
        )
        while not cluster.get("pods", "library-docs-v0003"):
            time.sleep(0.02)
        code, found = ask()
    assert (code, found["applied"], found["answering"]) == (1, "library_docs_v3", "library_docs_v2")
    assert "kserve-container failed" in found["differences"][-1]


def apply_as(cluster: Cluster, manager: str, number: int) -> None:
    """Someone else's server-side apply."""
    body, query = inference_service("library_docs", number, ROOT), {"fieldManager": manager, "force": "true"}
    kind = "application/apply-patch+yaml"
    cluster.patch("inferenceservices", "team", "library-docs", kind, body, {**query, "fieldValidation": "Strict"})


def test_fields_of_another_manager_are_taken_over_only_when_told(cluster: Cluster, server: ApiServer) -> None:
    apply_as(cluster, "argocd-controller", 1)
    with kserve(cluster):
        with pytest.raises(Conflict, match=r'managed by someone else .*"argocd-controller": \.spec\.predictor\.model'):
            deploy(server, "library_docs", 2, ROOT, 30)
        assert uri(cluster) == f"{ROOT}/library_docs/v0001/"
        assert noted(cluster) is None
        assert deploy(server, "library_docs", 2, ROOT, 30, force_conflicts=True).version == "library_docs_v2"


def noted(cluster: Cluster) -> Any:
    """What a deployment under way left for a step that is run again."""
    return cluster.get("configmaps", "library-docs-deployment-under-way")


@pytest.mark.parametrize("right", [("patch", "configmaps"), ("patch", "inferenceservices"), ("watch", SERVICES)])
def test_a_missing_right_is_named_and_nothing_is_left(
    cluster: Cluster, server: ApiServer, right: tuple[str, str]
) -> None:
    cluster.forbidden.add(right)
    with kserve(cluster), pytest.raises(ConfigError, match=rf'cannot {right[0]} resource "{right[1]}".*base/runner'):
        deploy(server, "library_docs", 1, ROOT, 30)
    assert (uri(cluster), noted(cluster)) == (None, None)


def test_what_only_explains_is_not_needed(cluster: Cluster, server: ApiServer) -> None:
    cluster.forbidden |= {("list", "pods"), ("watch", "events")}
    said: list[str] = []
    with kserve(cluster):
        assert deploy(server, "library_docs", 1, ROOT, 30, said.append).version == "library_docs_v1"
    assert any('cannot list resource "pods"' in line for line in said)


def lists(cluster: Cluster) -> int:
    """How often the InferenceServices were listed."""
    asked = [path for method, path in cluster.requests if "/inferenceservices?" in path]
    return sum("watch=true" not in path for path in asked)


@pytest.mark.parametrize("trouble", ["410 Gone", "a dropped connection"])
def test_a_watch_that_is_lost_is_taken_up_again(trouble: str, cluster: Cluster, server: ApiServer) -> None:
    def ask() -> Any:
        if trouble == "410 Gone" and lists(cluster) < 2:
            with cluster.lock:
                # A change that no watch is told before it is forgotten.
                cluster.make("secrets", {"metadata": {"name": "other", "namespace": "team"}})
                cluster.forget_changes()
        return Endpoint(server, "library_docs").ask() if lists(cluster) > 1 else None

    cluster.cut_watches = 3 if trouble == "a dropped connection" else 0
    with kserve(cluster):
        assert deploy(server, "library_docs", 1, ROOT, 30, ask=ask).version == "library_docs_v1"
    assert lists(cluster) > 1
    assert noted(cluster) is None


def test_what_answers_and_never_is_ready_is_taken_back(cluster: Cluster, server: ApiServer) -> None:
    with kserve(cluster) as controller:
        deploy(server, "library_docs", 1, ROOT, 30)
        controller.unready = True
        with pytest.raises(
            ClusterError, match=r"it answers, and KServe does not say Ready: NoIngress no gateway after"
        ):
            deploy(server, "library_docs", 2, ROOT, 1)
        assert Endpoint(server, "library_docs").ask() == Answering("library_docs_v1", "sha256:library_docs_v1")
    assert uri(cluster) == f"{ROOT}/library_docs/v0001/"


def test_another_model_under_the_version_s_name_is_taken_back(cluster: Cluster, server: ApiServer) -> None:
    with kserve(cluster):
        deploy(server, "library_docs", 1, ROOT, 30, digest="sha256:library_docs_v1")
        with pytest.raises(IntegrityError, match="answers with digest sha256:library_docs_v2, and the registry has x"):
            deploy(server, "library_docs", 2, ROOT, 30, digest="x")
        silent = Answering("library_docs_v2", None)
        with pytest.raises(IntegrityError, match="answers without its digest"):
            deploy(server, "library_docs", 2, ROOT, 0.1, digest="x", ask=lambda: silent)
    assert uri(cluster) == f"{ROOT}/library_docs/v0001/"


def test_what_someone_else_applies_meanwhile_is_left(cluster: Cluster, server: ApiServer) -> None:
    def ask() -> None:
        apply_as(cluster, "kubectl", 3)

    with kserve(cluster), pytest.raises(Conflict, match=r"someone else applied .*/v0003/ meanwhile"):
        deploy(server, "library_docs", 2, ROOT, 30, ask=ask)
    assert (uri(cluster), noted(cluster)) == (f"{ROOT}/library_docs/v0003/", None)


def test_an_interrupt_takes_it_back_at_once(cluster: Cluster, server: ApiServer) -> None:
    def ask() -> None:
        raise KeyboardInterrupt

    with kserve(cluster):
        deploy(server, "library_docs", 1, ROOT, 30)
        with pytest.raises(KeyboardInterrupt):
            deploy(server, "library_docs", 2, ROOT, 30, ask=ask)
    assert (uri(cluster), noted(cluster)) == (f"{ROOT}/library_docs/v0001/", None)


PROGRAM = """
import sys
from fairlead.cluster.api_server import ApiServer
from fairlead.cluster.deployment import deploy
deploy(ApiServer.connect("it", "name one"), "library_docs", 2, sys.argv[1], 600, lambda line: print(line, flush=True))
"""


def test_a_step_that_was_killed_knows_what_served_when_it_is_run_again(cluster: Cluster, server: ApiServer) -> None:
    with kserve(cluster, v0002=BROKEN["no room"][0]):
        deploy(server, "library_docs", 1, ROOT, 30)
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, ROOT], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "applied InferenceService" in process.stdout.readline()
        process.kill()
        process.wait()
        assert uri(cluster) == f"{ROOT}/library_docs/v0002/"
        with pytest.raises(ClusterError, match=r"Unschedulable.*v0001/ is served again"):
            deploy(server, "library_docs", 2, ROOT, 2)
    assert (uri(cluster), noted(cluster)) == (f"{ROOT}/library_docs/v0001/", None)


def verbs_used(cluster: Cluster) -> set[tuple[str, str]]:
    """Verb and resource of every request; a server-side apply may create, too."""
    found = set()
    for method, address in cluster.requests:
        path, _, query = address.partition("?")
        plural, name, sub = (*path.partition("/namespaces/team/")[2].split("/"), "", "")[:3]
        reading = "watch" if "watch=true" in query else "get" if name else "list"
        for verb in {"GET": [reading], "PATCH": ["patch", "create"], "DELETE": ["delete"]}[method]:
            found.add((verb, f"{plural}/{sub}" if sub else plural))
    return found


def test_the_role_has_the_verbs_that_are_used_and_no_others(cluster: Cluster, server: ApiServer) -> None:
    with kserve(cluster, v0001=BROKEN["a crash"][0]), pytest.raises(ClusterError, match="it was removed again"):
        deploy(server, "library_docs", 1, ROOT, 30)
    role, _ = yaml.safe_load_all((MANIFESTS / "base" / "deployer" / "role.yaml").read_text())
    granted = {(verb, resource) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert verbs_used(cluster) == granted
