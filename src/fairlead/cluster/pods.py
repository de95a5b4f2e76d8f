"""What a pod's status says, in words: why it does not run, and how it ended."""

from collections.abc import Iterator
from dataclasses import dataclass

from fairlead.cluster.api_server import Object

# JobSet's and Job's labels: all pods of a TrainJob, and which of its nodes one is.
JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
# These do not pass by themselves: the image's name, its registry's answer, a missing Secret.
STUCK = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"}
)
DISRUPTED = frozenset({"Evicted", "Preempting", "Preempted", "Shutdown", "NodeShutdown", "Terminated"})


@dataclass(frozen=True)
class End:
    """How a pod's container ended."""

    exit_code: int | None
    """None where the pod ended without one: it was evicted."""
    reason: str
    """`OOMKilled`, `Error`, `Evicted`..."""
    message: str
    """What the container left as its reason, or Kubernetes says."""
    disrupted: bool
    """Whether the cluster took the pod away."""

    def __str__(self) -> str:
        how = self.reason if self.exit_code is None else f"{self.reason}, exit code {self.exit_code}"
        return f"{how}: {self.message}" if self.message else how


def index(pod: Object) -> int:
    """Which node of the TrainJob a pod is."""
    return int((pod["metadata"].get("labels") or {}).get(INDEX_LABEL) or 0)


def phase(pod: Object) -> str:
    """`Pending`, `Running`, `Succeeded` or `Failed`; `Terminating` while it is told to end."""
    status: str = (pod.get("status") or {}).get("phase") or "Pending"
    return "Terminating" if status == "Running" and pod["metadata"].get("deletionTimestamp") else status


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready and stays."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def waits_for(pod: Object) -> tuple[str, str]:
    """The reason and the message of what keeps a pod from running; empty when nothing is known to."""
    for state in _states(pod):
        waiting = state.get("waiting")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return str(waiting["reason"]), _line(waiting.get("message"))
    for found in (pod.get("status") or {}).get("conditions") or []:
        if found["type"] == "PodScheduled" and found["status"] == "False":
            return str(found.get("reason") or "Unschedulable"), _line(found.get("message"))
    return "", ""


def end(pod: Object) -> End | None:
    """How a pod failed; None when it has not."""
    status = pod.get("status") or {}
    terminated = next((s["terminated"] for s in _states(pod) if s.get("terminated")), None)
    failed = status.get("phase") == "Failed" or bool(terminated and terminated.get("exitCode"))
    if not failed:
        return None
    taken = any(c["type"] == "DisruptionTarget" and c["status"] == "True" for c in status.get("conditions") or [])
    reason = status.get("reason") or (terminated or {}).get("reason") or "Failed"
    message = (terminated or {}).get("message") or status.get("message")
    code = int(terminated["exitCode"]) if terminated else None
    return End(code, reason, _line(message), taken or reason in DISRUPTED)


def _states(pod: Object) -> Iterator[Object]:
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        yield container.get("state") or {}


def _line(message: str | None) -> str:
    return " ".join(str(message or "").split())[:500]
