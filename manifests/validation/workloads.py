"""The pods that an object makes, wherever its kind keeps them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Where a kind's pod stands; the rest of the kinds make none.
TEMPLATES = {
    "Pod": "spec",
    "Deployment": "spec.template.spec",
    "StatefulSet": "spec.template.spec",
    "DaemonSet": "spec.template.spec",
    "Job": "spec.template.spec",
    "CronJob": "spec.jobTemplate.spec.template.spec",
    "InferenceService": "spec.predictor",
    "ClusterServingRuntime": "spec",
    "ServingRuntime": "spec",
}
# Kinds whose containers run until they are told to end.
LASTING = {"Deployment", "StatefulSet", "DaemonSet", "ClusterServingRuntime", "ServingRuntime"}
# The parts of one pod that are written in two objects: a runtime has no pod settings, an InferenceService of ours no
# containers.
ONLY_CONTAINERS = {"ClusterServingRuntime", "ServingRuntime", "ClusterStorageContainer"}


@dataclass(frozen=True)
class PodTemplate:
    """A pod in an object."""

    kind: str
    path: str
    spec: dict[str, Any]

    @property
    def has_pod_settings(self) -> bool:
        """Whether settings of the pod, not only of its containers, stand here."""
        return self.kind not in ONLY_CONTAINERS

    def containers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each container with its path, those that run first included."""
        for group in ("initContainers", "containers"):
            for index, container in enumerate(self.spec.get(group) or []):
                yield f"{self.path}.{group}[{index}]", container


def pods(found: dict[str, Any]) -> Iterator[PodTemplate]:
    """The pods of an object."""
    kind = found["kind"]
    if kind == "ClusterStorageContainer":
        container = found.get("spec", {}).get("container")
        yield PodTemplate(kind, "$.spec", {"containers": [container] if container else []})
    elif kind in ("ClusterTrainingRuntime", "TrainingRuntime"):
        jobs = _at(found, "spec.template.spec").get("replicatedJobs", [])
        for index, job in enumerate(jobs):
            path = f"$.spec.template.spec.replicatedJobs[{index}].template.spec.template.spec"
            yield PodTemplate(kind, path, _at(job, "template.spec.template.spec"))
    elif kind in TEMPLATES:
        yield PodTemplate(kind, f"$.{TEMPLATES[kind]}", _at(found, TEMPLATES[kind]))


def _at(found: dict[str, Any], path: str) -> dict[str, Any]:
    value: Any = found
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
