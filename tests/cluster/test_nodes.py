"""Many nodes: the real client against a real HTTP API with the real CRD, and nodes that are real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.cluster import following, nodes
from fairlead.cluster.api_server import ApiServer
from fairlead.cluster.config import CompileSettings
from fairlead.cluster.nodes import train_on_nodes
from fairlead.cluster.served import read_served
from fairlead.cluster.trainjob import Follower, make_trainjob
from fairlead.errors import ClusterError, ConfigError, Conflict, FairleadError, TrainingError
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching.job import Job
from tests.cluster.kubernetes_objects import Cluster, Object, now
from tests.cluster.kubernetes_server import enter, serving
from tests.cluster.trainer import INDEX, JOBSET, NAMESPACE, set_condition, webhook

CRD = Path("kubeflow-trainer") / "trainer.kubeflow.org_trainjobs.yaml"
NAME = "animals-0123456789ab"


@pytest.fixture(autouse=True)
def store(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FAIRLEAD_STORE", s3_url)
    return s3_url


@pytest.fixture
def cluster(crds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.install(crds / CRD)
    cluster.admit.append(webhook)
    with serving(cluster):
        use(cluster, tmp_path, monkeypatch)
        yield cluster


def use(cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process one that reaches `cluster` by a kubeconfig."""
    enter(cluster, folder, monkeypatch)
    monkeypatch.setenv("FAIRLEAD_CLUSTER", '{"torch_image": "registry.example/torch@sha256:12ab"}')


def job(**training: Any) -> Job:
    values: Any = {
        "run_id": "run_0123456789ab",
        "project": "animals",
        "tokens": "/tokens",
        "base": None,
        "parent": None,
        "data": {},
        "model": ModelConfig(),
        "training": TrainConfig.parse({"nodes": 2} | training),
        "folder": "/folder",
        "threads": 1,
    }
    known = Job.model_fields.keys()
    return Job(**{k: v for k, v in (values | {"checkpoints": "s3://models/team/c"}).items() if k in known})


def connect() -> ApiServer:
    return ApiServer.connect("it", "name one")


class Step:
    """The train step's part on the cluster, in a thread: signals are for the main thread only."""

    def __init__(self, asked: Job | None = None) -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(asked or job(),), daemon=True)
        self._thread.start()

    def _run(self, asked: Job) -> None:
        try:
            train_on_nodes(asked)
        except BaseException as error:
            self.error = error

    def end(self) -> BaseException | None:
        self._thread.join(100)
        assert not self._thread.is_alive()
        return self.error


def wait_for(what: Callable[[], Any], seconds: float = 200) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def watches(cluster: Cluster, count: int) -> bool:
    """Whether so many watches have begun; a step begins two."""
    return sum("watch=true" in path for _, path in cluster.requests) >= count


def add_pod(cluster: Cluster, index: int, status: Object, attempt: int = 0) -> str:
    name = f"{NAME}-node-0-{index}-{attempt:05d}"
    labels = {JOBSET: NAME, INDEX: str(index)}
    cluster.make("pods", {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "status": status})
    return name


def started(cluster: Cluster) -> Object:
    found: Object = wait_for(lambda: cluster.get("trainjobs", NAME))
    return found


def terminated(code: int, reason: str = "Error", message: str = "") -> Object:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return {"phase": "Failed", "containerStatuses": [{"name": "node", "state": state}]}


# What is asked for ---------------------------------------------------------------------------------------------


def test_the_server_takes_what_is_made_and_nothing_in_it_is_secret(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("FAIRLEAD_REGISTRY", "postgresql://u:hush@db/f")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    monkeypatch.setenv(
        "FAIRLEAD_CLUSTER",
        '{"torch_image": "r/torch:1", "gpus": 4, "memory": "64Gi", "shm_size": "8Gi", "queue": "gpu",'
        ' "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],'
        ' "node_selector": {"pool": "h200"}}',
    )
    step = Step()
    found = started(cluster)
    assert "hush" not in str(found)
    trainer = found["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (2, 4, "r/torch:1")
    assert trainer["command"] == ["python", "-m", "fairlead.training.launching.node"] and trainer["args"] == [
        "run_0123456789ab"
    ]
    assert trainer["resourcesPerNode"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": 4}
    env = {e["name"]: e for e in trainer["env"]}
    assert env["FAIRLEAD_STORE"]["value"] == os.environ["FAIRLEAD_STORE"]
    assert env["FAIRLEAD_REGISTRY"]["valueFrom"]["secretKeyRef"]["optional"] is False
    assert env["MLFLOW_TRACKING_URI"]["value"] == "https://mlflow.example" and "FAIRLEAD_TENSORBOARD" not in env
    reference = {"name": "fairlead", "key": "MLFLOW_TRACKING_PASSWORD", "optional": True}
    assert env["MLFLOW_TRACKING_PASSWORD"] == {
        "name": "MLFLOW_TRACKING_PASSWORD",
        "valueFrom": {"secretKeyRef": reference},
    }
    assert found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    assert found["metadata"]["labels"]["fairlead.dev/run"] == "run_0123456789ab"
    (job_patch,) = found["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job_patch["template"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu" and pod["nodeSelector"] == {"pool": "h200"}
    assert pod["terminationGracePeriodSeconds"] == 60
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    assert step.end() is None


def test_an_address_with_credentials_is_not_written_into_the_object(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://bob:hush@mlflow.example")
    error = Step().end()
    assert isinstance(error, ConfigError) and "hush" not in str(error)
    assert "carries credentials; set them by MLFLOW_TRACKING_USERNAME in the Secret" in str(error)


def older(change: Callable[[Object], None]) -> Callable[[Object], None]:
    """A change of the TrainJob CRD's spec that makes it another version's."""

    def apply(crd: Object) -> None:
        change(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])

    return apply


def pod_schema(spec: Object) -> Object:
    """The schema of the pod in runtimePatches."""
    jobs = spec["runtimePatches"]["items"]["properties"]["trainingRuntimeSpec"]["properties"]["template"]
    one = jobs["properties"]["spec"]["properties"]["replicatedJobs"]["items"]["properties"]["template"]
    pod = one["properties"]["spec"]["properties"]["template"]["properties"]["spec"]
    return dict(pod)


def as_v2_1(spec: Object) -> None:
    pod = pod_schema(spec)
    pod["properties"] = {k: v for k, v in pod["properties"].items() if k != "terminationGracePeriodSeconds"}
    target = {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}}
    override = {"type": "object", "properties": {"targetJobs": target, "spec": pod}}
    spec["podTemplateOverrides"] = {"type": "array", "items": override}
    del spec["runtimePatches"]


def as_v2_0(spec: Object) -> None:
    as_v2_1(spec)
    override = spec.pop("podTemplateOverrides")["items"]
    pod = override["properties"].pop("spec")["properties"]
    spec["podSpecOverrides"] = {"type": "array", "items": override | {"properties": override["properties"] | pod}}


def without_grace(spec: Object) -> None:
    del pod_schema(spec)["properties"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    ("change", "field", "where"),
    [
        (as_v2_0, "podSpecOverrides", lambda o: o),
        (as_v2_1, "podTemplateOverrides", lambda o: o["spec"]),
        (
            without_grace,
            "runtimePatches",
            lambda o: o["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"][
                "spec"
            ],
        ),
    ],
)
def test_each_version_of_the_crd_gets_the_form_that_it_takes(
    crds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Object], None],
    field: str,
    where: Callable[[Object], Object],
) -> None:
    cluster = Cluster()
    cluster.install(crds / CRD, older(change))
    with serving(cluster):
        use(cluster, tmp_path, monkeypatch)
        step = Step()
        found = started(cluster)
        pod = where(found["spec"][field][0])
        assert pod["volumes"][0]["name"] == "dshm" and "terminationGracePeriodSeconds" not in pod
        set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
        assert step.end() is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda spec: spec.pop("runtimePatches"), "has no way to patch pods that is known here"),
        (lambda spec: spec["trainer"]["properties"].pop("numProcPerNode"), r"no place for spec\.trainer\.numProcPer"),
        (lambda spec: spec["trainer"]["properties"]["numNodes"].update(type="string"), "numNodes: 2, which is to be"),
    ],
)
def test_a_version_without_a_needed_field_is_refused_in_a_sentence(
    crds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Object], None], sentence: str
) -> None:
    cluster = Cluster()
    cluster.install(crds / CRD, older(change))
    with serving(cluster):
        use(cluster, tmp_path, monkeypatch)
        with pytest.raises(ConfigError, match=sentence):
            train_on_nodes(job())
        assert not cluster.objects


def test_where_crds_may_not_be_read_the_openapi_document_serves(cluster: Cluster) -> None:
    cluster.forbidden.add(("get", "customresourcedefinitions"))
    assert read_served(connect()).takes("spec.runtimePatches[].manager")


def test_the_api_enforces_the_schema(cluster: Cluster) -> None:
    """The tests above stand on this: what Fairlead would send wrong, the server refuses."""
    api, served = connect(), read_served(connect())
    path = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
    wanted = make_trainjob(job(), CompileSettings(), served, "image", Follower("me"))

    def changed(**spec: Any) -> Object:
        return wanted | {"spec": wanted["spec"] | spec}

    with pytest.raises(ConfigError, match="unknown field"):
        api.create(path, changed(numNodes=2))
    with pytest.raises(ConfigError, match="is not of type"):
        api.create(path, changed(suspend="no"))
    env = [{"name": "PET_NNODES", "value": "3"}]
    with pytest.raises(ConfigError, match="reserved envs"):
        api.create(path, changed(trainer=wanted["spec"]["trainer"] | {"env": env}))
    made = api.create(path, wanted)
    with pytest.raises(Conflict, match="already exists"):
        api.create(path, wanted)
    with pytest.raises(ConfigError, match="field is immutable"):
        api.patch(f"{path}/{NAME}", {"spec": {"trainer": {"numNodes": 3}}})
    api.patch(f"{path}/{NAME}", {"spec": {"suspend": True}})
    with pytest.raises(Conflict, match="has been modified"):
        api.patch(f"{path}/{NAME}", {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}})


# Attaching -----------------------------------------------------------------------------------------------------


def test_a_step_that_is_run_again_attaches_to_the_same_trainjob(cluster: Cluster) -> None:
    first = Step()
    uid = started(cluster)["metadata"]["uid"]
    # The first step's machine is lost; two more take its place, one after the other.
    second, third = Step(), Step()
    wait_for(lambda: watches(cluster, 6))
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    assert [step.end() for step in (first, second, third)] == [None, None, None]
    assert cluster.get("trainjobs", NAME)["metadata"]["uid"] == uid  # type: ignore[index]
    assert sum(method == "POST" for method, _ in cluster.requests) == 1


@pytest.mark.parametrize("kind", ["Failed", "Complete"])
def test_one_that_ended_gives_way_to_another_try(cluster: Cluster, kind: str) -> None:
    step = Step()
    uid = started(cluster)["metadata"]["uid"]
    set_condition(cluster, NAME, kind, "True", "Because", "of that")
    step.end()
    again = Step()
    wait_for(lambda: started(cluster)["metadata"]["uid"] != uid)
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    assert again.end() is None


def test_other_content_waits_for_a_running_one_and_replaces_a_suspended_one(cluster: Cluster) -> None:
    first = Step()
    uid = started(cluster)["metadata"]["uid"]
    with pytest.raises(Conflict, match="runs the same training with other settings"):
        train_on_nodes(job(nodes=3))
    cluster.update("trainjobs", NAME, lambda o: o["spec"].update(suspend=True))
    other = Step(job(nodes=3))
    wait_for(lambda: started(cluster)["metadata"]["uid"] != uid)
    assert started(cluster)["spec"]["trainer"]["numNodes"] == 3
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    assert other.end() is None
    assert "someone deleted it" in str(first.end())


def test_a_trainjob_of_someone_else_is_left_alone(cluster: Cluster) -> None:
    step = Step()
    started(cluster)
    cluster.update("trainjobs", NAME, lambda o: o["metadata"]["labels"].pop("fairlead.dev/run"))
    with pytest.raises(Conflict, match="not of this run"):
        train_on_nodes(job())
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    step.end()


def test_the_run_s_workflow_owns_the_trainjob_and_its_image_is_that_of_the_step(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner: Object = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run-1", "uid": "u-1"}
    owner["controller"] = True
    metadata = {"name": "run-1-train", "namespace": NAMESPACE, "ownerReferences": [owner]}
    containers = [{"name": "wait", "image": "argo"}, {"name": "main", "image": "r/torch@sha256:77"}]
    cluster.make("pods", {"metadata": metadata, "spec": {"containers": containers}, "status": {"phase": "Running"}})
    monkeypatch.setenv("FAIRLEAD_POD", "run-1-train")
    monkeypatch.setenv("FAIRLEAD_CLUSTER", "{}")
    step = Step()
    found = started(cluster)
    del owner["controller"]
    assert found["metadata"]["ownerReferences"] == [owner]
    assert found["spec"]["trainer"]["image"] == "r/torch@sha256:77"
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    assert step.end() is None


# Refused -------------------------------------------------------------------------------------------------------


def test_without_trainer_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    with serving(cluster):
        use(cluster, tmp_path, monkeypatch)
        with pytest.raises(ConfigError, match="needs Kubeflow Trainer, and the cluster serves no TrainJob"):
            train_on_nodes(job())


@pytest.mark.parametrize("right", [("create", "trainjobs"), ("watch", "pods"), ("list", "trainjobs")])
def test_a_missing_right_is_named_with_the_role_that_gives_it(cluster: Cluster, right: tuple[str, str]) -> None:
    cluster.forbidden.add(right)
    with pytest.raises(ConfigError, match=rf"cannot {right[0]} resource \"{right[1]}\".*manifests/base/runner"):
        train_on_nodes(job())


def test_without_a_cluster_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    nowhere = str(tmp_path / "nowhere")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", nowhere)
    with pytest.raises(ConfigError, match="needs a cluster, and there is none here"):
        train_on_nodes(job())


# Following -----------------------------------------------------------------------------------------------------


def test_a_server_with_troubles_is_followed_to_the_end(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    """503, watches that are cut within a line, and a history that is gone."""
    cluster.unavailable, cluster.cut_watches = 2, 3
    step = Step()
    started(cluster)
    wait_for(lambda: watches(cluster, 2))
    pod = add_pod(cluster, 0, {"phase": "Running"})
    cluster.log(pod, "training: 10/54 steps")
    cluster.forget_changes()
    add_pod(cluster, 1, {"phase": "Pending"})
    wait_for(lambda: watches(cluster, 4))
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    assert step.end() is None
    told = capfd.readouterr().out
    assert "training: 10/54 steps" in told and f"pod {pod} is running" in told


def test_one_that_is_deleted_ends_the_step_for_a_retry(cluster: Cluster) -> None:
    step = Step()
    started(cluster)
    cluster.remove("trainjobs", NAME)
    error = step.end()
    assert isinstance(error, ClusterError) and "someone deleted it" in str(error)


def test_a_node_that_ends_with_42_stops_all_and_is_not_retried(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where the runtime would start it again."""
    step = Step()
    started(cluster)
    pod = add_pod(cluster, 1, {"phase": "Running"})
    for line in ("loading", "error: data: row 7 has no label; give it one"):
        cluster.log(pod, line)
    cluster.update("pods", pod, lambda o: o["status"].update(terminated(42, message="data: row 7 has no label")))
    error = step.end()
    assert isinstance(error, FairleadError) and not error.retryable and "row 7 has no label" in str(error)
    assert "node 1 | error: data: row 7 has no label; give it one" in capfd.readouterr().out
    assert cluster.get("trainjobs", NAME)["spec"]["suspend"] is True  # type: ignore[index]


def test_an_evicted_node_is_told_and_the_nodes_go_on(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    step = Step()
    started(cluster)
    pod = add_pod(cluster, 1, {"phase": "Running"})
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    cluster.update("pods", pod, lambda o: o["status"].update(evicted))
    wait_for(lambda: f"/pods/{pod}/log" in str(cluster.requests))
    cluster.remove("pods", pod)
    add_pod(cluster, 1, {"phase": "Running"}, attempt=1)
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    assert step.end() is None
    assert "was taken away by the cluster (Evicted: The node was low on resource: memory.)" in capfd.readouterr().out


def test_the_end_of_all_retries_names_the_node_and_its_reason(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody ends the node that runs.
    monkeypatch.setattr(nodes, "WAIT_SECONDS", 0.5)
    step = Step()
    started(cluster)
    add_pod(cluster, 0, {"phase": "Running"})
    add_pod(cluster, 1, terminated(137, "OOMKilled"))
    set_condition(cluster, NAME, "Failed", "True", "FailedJobs", "jobset failed")
    error = step.end()
    assert isinstance(error, TrainingError) and "node 1: OOMKilled, exit code 137" in str(error)


def test_a_runtime_that_is_not_there_is_the_reason(cluster: Cluster) -> None:
    step = Step()
    started(cluster)
    set_condition(cluster, NAME, "Failed", "True", "TrainingRuntimeNotSupported", "unsupported runtime: fairlead-torch")
    assert "unsupported runtime: fairlead-torch" in str(step.end())


def pending(message: str) -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def test_nodes_that_wait_long_say_what_for(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(following, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(nodes, "WAIT_SECONDS", 0.5)
    told: list[str] = []

    def says(sentence: str) -> bool:
        told.append(capfd.readouterr().out)
        return sentence in "".join(told)

    step = Step()
    started(cluster)
    message = 'pods "animals" is forbidden: exceeded quota: gpus'
    event = {"involvedObject": {"kind": "Job", "name": f"{NAME}-node-0"}, "type": "Warning", "reason": "FailedCreate"}
    metadata = {"name": "e1", "namespace": NAMESPACE}
    cluster.make("events", event | {"metadata": metadata, "message": message, "lastTimestamp": now()})
    wait_for(lambda: says(f"0 of 2 nodes run; Job says FailedCreate: {message}"))
    add_pod(cluster, 0, {"phase": "Running"})
    pod = add_pod(cluster, 1, pending("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."))
    wait_for(lambda: says("1 of 2 nodes run; node 1 waits: Unschedulable: 0/3 nodes are available"))
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "r/torch:typo"'}}
    monkeypatch.setattr(following, "STUCK_SECONDS", 0.2)
    cluster.update("pods", pod, lambda o: o["status"].update(containerStatuses=[{"name": "node", "state": waiting}]))
    error = step.end()
    assert isinstance(error, ClusterError) and 'ImagePullBackOff: Back-off pulling image "r/torch:typo"' in str(error)
    # The node that ran is not left waiting for the other.
    assert cluster.get("trainjobs", NAME)["spec"]["suspend"] is True  # type: ignore[index]


def test_a_queue_that_holds_the_nodes_says_why(
    cluster: Cluster, crds: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.install(crds / "kueue" / "kueue.x-k8s.io_workloads.yaml")
    monkeypatch.setenv("FAIRLEAD_CLUSTER", '{"torch_image": "r/torch:1", "queue": "gpu"}')
    monkeypatch.setattr(following, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(following, "TICK_SECONDS", 0.02)
    step, told = Step(), ""
    owner = {"kind": "TrainJob", "name": NAME, "uid": started(cluster)["metadata"]["uid"]}
    reserved = {"type": "QuotaReserved", "status": "False", "message": "insufficient unused quota for nvidia.com/gpu"}
    metadata = {"name": "w", "namespace": NAMESPACE, "ownerReferences": [owner]}
    cluster.make("workloads", {"metadata": metadata, "status": {"conditions": [reserved]}})
    deadline = time.monotonic() + 100
    while "0 of 2 nodes run; the queue holds it: insufficient unused quota for nvidia.com/gpu" not in told:
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
        told += capfd.readouterr().out
    cluster.remove("trainjobs", NAME)
    assert "someone deleted it" in str(step.end())


# Cancelled -----------------------------------------------------------------------------------------------------

STEP = """
import json, sys
from fairlead.cluster.nodes import train_on_nodes
from fairlead.stage import stage
from fairlead.training.launching.job import Job
stage("train")(train_on_nodes)(Job.parse(json.loads(sys.argv[1])))
"""


def step_process(asked: Job) -> subprocess.Popen[str]:
    import json

    command = [sys.executable, "-c", STEP, json.dumps(asked.to_dict())]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("queue", [False, True])
def test_sigterm_suspends_the_nodes_and_the_next_step_resumes_them(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, queue: bool
) -> None:
    if queue:
        monkeypatch.setenv("FAIRLEAD_CLUSTER", '{"torch_image": "r/torch:1", "queue": "gpu"}')
    process = step_process(job())
    uid = started(cluster)["metadata"]["uid"]
    wait_for(lambda: watches(cluster, 2))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    last = output.strip().splitlines()[-1]
    assert last == f"error: train: it was stopped by SIGTERM, and the nodes of TrainJob {NAME} keep their state; " + (
        "run again to go on from there"
    )
    left = cluster.get("trainjobs", NAME)
    # A queue would start a suspended one again.
    assert left is None if queue else left and left["spec"]["suspend"] is True
    again = Step()
    wait_for(lambda: (cluster.get("trainjobs", NAME) or {"spec": {"suspend": True}})["spec"]["suspend"] is False)
    assert (started(cluster)["metadata"]["uid"] == uid) is not queue
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    assert again.end() is None


def test_a_step_that_another_has_followed_up_does_not_suspend(cluster: Cluster) -> None:
    process = step_process(job())
    started(cluster)
    wait_for(lambda: watches(cluster, 2))
    second = Step()
    wait_for(lambda: watches(cluster, 4))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    assert "is followed elsewhere" in output
    assert started(cluster)["spec"]["suspend"] is False
    set_condition(cluster, NAME, "Complete", "True", "AllJobsCompleted", "done")
    assert second.end() is None
