"""A controller beside the API server: what Kubeflow Trainer, JobSet, Job and a kubelet do for a TrainJob, in small.

The pods' containers are processes of this machine: the image is ignored, `python` is this one, the
names of the pods are 127.0.0.1, and each has a home of its own. All else is as the TrainJob, its
runtime and its patches say: command, environment (also from Secrets), number of nodes, exit codes that
end a Job, restarts, the grace period.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kubernetes_objects import Cluster, Object, Refusal, now

# What Trainer's torch plugin sets, and refuses when a TrainJob does (pkg/constants, v2.3).
RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
JOBSET, INDEX = "jobset.sigs.k8s.io/jobset-name", "batch.kubernetes.io/job-completion-index"
NAMESPACE = "team"


def webhook(old: Object | None, new: Object) -> None:
    """What Trainer's validating webhook says to a TrainJob."""
    if new.get("kind") != "TrainJob":
        return
    spec = new["spec"]
    taken = RESERVED & {e["name"] for e in spec["trainer"].get("env", [])}
    if taken:
        raise Refusal(422, "Invalid", f"spec.trainer.env: must not have reserved envs: {sorted(taken)}")
    for patch in spec.get("runtimePatches", []):
        if "/" not in patch["manager"]:
            raise Refusal(422, "Invalid", "spec.runtimePatches.manager: must be a domain-prefixed path")
        for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            names = {c["name"] for c in job["template"]["spec"]["template"]["spec"].get("containers", [])}
            if job["name"] != "node" or names - {"node"}:
                raise Refusal(422, "Invalid", "spec.runtimePatches: no such job or container in the runtime")
    if old and old["spec"].get("runtimePatches") != spec.get("runtimePatches") and not spec.get("suspend"):
        raise Refusal(403, "Forbidden", "RuntimePatches can only be modified when the TrainJob is suspended")


def merged(base: Any, patch: Any) -> Any:
    """A strategic merge, as far as pods need it: lists of named things by name, others replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{k: merged(base.get(k), v) if k in base else v for k, v in patch.items()}}
    if isinstance(base, list) and isinstance(patch, list) and all("name" in x for x in [*base, *patch]):
        by_name = {x["name"]: x for x in base}
        for x in patch:
            by_name[x["name"]] = merged(by_name.get(x["name"], {}), x)
        return list(by_name.values())
    return patch


class Pod:
    """A pod whose container is a process."""

    def __init__(self, trainer: "Trainer", job: str, index: int, attempt: int, container: Object, grace: float) -> None:
        self.cluster, self.index, self.grace = trainer.cluster, index, grace
        self.name = f"{job}-node-0-{index}-{attempt:05d}"
        labels = {JOBSET: job, INDEX: str(index)}
        metadata = {"name": self.name, "namespace": NAMESPACE, "labels": labels}
        self.cluster.make("pods", {"metadata": metadata, "spec": {}, "status": {"phase": "Pending"}})
        environment = trainer.environment | {"FAIRLEAD_HOME": str(trainer.folder / self.name)}
        command = [sys.executable if word == "python" else word for word in container["command"]]
        self.process = subprocess.Popen(
            [*command, *container.get("args", [])],
            env=environment | self._environment(container),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=trainer.folder,
        )
        self._status({"phase": "Running"})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _environment(self, container: Object) -> dict[str, str]:
        found = {}
        for entry in container["env"]:
            if "value" in entry:
                found[entry["name"]] = entry["value"]
            elif reference := entry["valueFrom"].get("secretKeyRef"):
                secret = self.cluster.get("secrets", reference["name"], NAMESPACE) or {"data": {}}
                if reference["key"] in secret["data"]:
                    found[entry["name"]] = secret["data"][reference["key"]]
                else:
                    assert reference.get("optional"), f"the pod cannot start without {reference}"
        return found

    def _read(self) -> None:
        for line in self.process.stdout or []:
            self.cluster.log(self.name, line.rstrip("\n"))

    def _status(self, status: Object) -> None:
        self.cluster.update("pods", self.name, lambda pod: pod["status"].update(status))

    def ended(self) -> int | None:
        """The exit code, once it is in the pod's status; None while the process runs."""
        code = self.process.poll()
        if code is None:
            return None
        self._reader.join()
        code = code if code >= 0 else 128 - code
        terminated = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
        states = [{"name": "node", "state": {"terminated": terminated}}]
        self._status({"phase": "Succeeded" if code == 0 else "Failed", "containerStatuses": states})
        return code

    def delete(self) -> None:
        """SIGTERM, the grace period, SIGKILL; then the pod is gone."""
        mark = {"deletionTimestamp": now()}
        self.cluster.update("pods", self.name, lambda pod: pod["metadata"].update(mark))
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.grace
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.process.kill()
            time.sleep(0.02)
        self._reader.join()
        self.cluster.remove("pods", self.name)


class Trainer:
    """Reconciles TrainJobs until it is told to end."""

    def __init__(self, cluster: Cluster, runtime: Path, folder: Path, environment: dict[str, str]) -> None:
        """`environment` is what the machines of the cluster have; the pods' own comes on top."""
        self.cluster, self.folder, self.environment = cluster, folder, environment
        self.runtime = yaml.safe_load(runtime.read_text("utf-8"))
        self.attempts: dict[str, int] = {}
        self._pods: dict[str, list[Pod]] = {}
        self._restarts: dict[str, int] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._crash: BaseException | None = None
        cluster.admit.append(webhook)

    def __enter__(self) -> "Trainer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        for pods in self._pods.values():
            for pod in pods:
                pod.process.kill()
                pod.process.wait()
        assert self._crash is None, self._crash

    def pods(self, job: str) -> list[Pod]:
        return self._pods.get(job, [])

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                jobs = {job["metadata"]["uid"]: job for job in self.cluster.select("trainjobs", NAMESPACE, {})}
                for uid in self._pods.keys() - jobs.keys():
                    self._end(uid)
                for uid, job in jobs.items():
                    self._reconcile(uid, job)
            except BaseException as error:
                self._crash = error
                return
            time.sleep(0.02)

    def _reconcile(self, uid: str, job: Object) -> None:
        name = job["metadata"]["name"]
        if any(c["type"] in ("Complete", "Failed") for c in (job.get("status") or {}).get("conditions", [])):
            return None
        if job["spec"]["suspend"]:
            if self._pods.get(uid):
                self._end(uid)
            return self._condition(name, "Suspended", "True", "Suspended", "TrainJob is suspended")
        self._condition(name, "Suspended", "False", "Resumed", "TrainJob is resumed", only_if_there=True)
        if not self._pods.get(uid):
            return self._start(uid, job)
        codes = [pod.ended() for pod in self._pods[uid]]
        if all(code == 0 for code in codes):
            self._condition(name, "Complete", "True", "AllJobsCompleted", "jobset completed successfully")
        elif any(codes):
            self._fail(uid, job, next(code for code in codes if code))
        return None

    def _start(self, uid: str, job: Object) -> None:
        name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
        assert self.runtime["metadata"]["name"] == job["spec"]["runtimeRef"]["name"]
        pod = self._pod_spec(job)
        container = merged(pod["containers"][0], {k: trainer[k] for k in ("image", "command", "args", "env")})
        attempt = self.attempts[name] = self.attempts.get(name, 0) + 1
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self._pods[uid] = []
        for index in range(trainer["numNodes"]):
            given = {
                "PET_NNODES": trainer["numNodes"],
                "PET_NPROC_PER_NODE": trainer["numProcPerNode"],
                "PET_NODE_RANK": index,
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": port,
            }
            own = deepcopy(container)
            own["env"] = [*own["env"], *({"name": k, "value": str(v)} for k, v in given.items())]
            grace = pod["terminationGracePeriodSeconds"]
            self._pods[uid].append(Pod(self, name, index, attempt, own, grace))

    def _pod_spec(self, job: Object) -> Object:
        spec = self.runtime["spec"]["template"]["spec"]
        for patch in job["spec"].get("runtimePatches", []):
            spec = merged(spec, patch["trainingRuntimeSpec"]["template"]["spec"])
        return spec["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]

    def _fail(self, uid: str, job: Object, code: int) -> None:
        """By the runtime's policy: the end for some exit codes, otherwise all start again."""
        name, spec = job["metadata"]["name"], self.runtime["spec"]["template"]["spec"]
        rules = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
        final = any(code in rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule)
        self._restarts[uid] = self._restarts.get(uid, 0) + 1
        if final or self._restarts[uid] > spec["failurePolicy"]["maxRestarts"]:
            reason = "PodFailurePolicy" if final else "ReachedMaxRestarts"
            return self._condition(name, "Failed", "True", reason, "jobset failed due to one or more job failures")
        # The Job's other pods are ended first, as its controller does; then JobSet makes all anew.
        return self._end(uid)

    def _end(self, uid: str) -> None:
        threads = [threading.Thread(target=pod.delete) for pod in self._pods.pop(uid, [])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _condition(
        self, name: str, kind: str, status: str, reason: str, message: str, only_if_there: bool = False
    ) -> None:
        set_condition(self.cluster, name, kind, status, reason, message, only_if_there)


def set_condition(
    cluster: Cluster, name: str, kind: str, status: str, reason: str, message: str, only_if_there: bool = False
) -> None:
    """Set a condition of a TrainJob's status."""

    def change(job: Object) -> None:
        conditions = job.setdefault("status", {}).setdefault("conditions", [])
        found = next((c for c in conditions if c["type"] == kind), None)
        if (found and found["status"] == status) or (only_if_there and not found):
            return
        rest = [c for c in conditions if c["type"] != kind]
        new = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}
        job["status"]["conditions"] = [*rest, new]

    cluster.update("trainjobs", name, change)


def machine(folder: Path, registry: str) -> dict[str, str]:
    """The environment of the cluster's machines: this one's, without what belongs to the step."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRLEAD_", "AWS_", "PET_"))}
    return keep | {"GLOO_SOCKET_IFNAME": "lo", "FAIRLEAD_REGISTRY": registry}
