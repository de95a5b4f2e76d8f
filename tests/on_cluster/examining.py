"""What a cluster has, as far as the suite has a use for it."""

from dataclasses import dataclass

from fairlead.cluster.api_server import Object, items
from fairlead.errors import FairleadError
from tests.on_cluster.objects import Objects

# Kinds by what brings them; a part that needs one says so when it is not there.
OPTIONAL = {
    "Gateway API": ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    "KEDA": ("keda.sh/v1alpha1", "ScaledObject"),
    "Knative": ("serving.knative.dev/v1", "Service"),
    "Prometheus operator": ("monitoring.coreos.com/v1", "PodMonitor"),
    "metrics server": ("metrics.k8s.io/v1beta1", "NodeMetrics"),
    "Kubeflow Trainer": ("trainer.kubeflow.org/v1alpha1", "TrainJob"),
    "Kubeflow Pipelines": ("pipelines.kubeflow.org/v2beta1", "Pipeline"),
    "Kueue": ("kueue.x-k8s.io/v1beta2", "Workload"),
    "External Secrets": ("external-secrets.io/v1", "ExternalSecret"),
}
KSERVE = ("serving.kserve.io/v1beta1", "InferenceService")
IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"


@dataclass(frozen=True)
class Found:
    """What is there."""

    kubernetes: str
    kserve: str
    """Image of its controller; empty when that is not to be read, `absent` without its CRDs."""
    has_storage_container_name: bool
    """Whether an InferenceService may name what fetches its model: KServe 0.20 and later."""
    has_volumes: bool
    """Whether a claim is bound to a volume that is deleted with it."""
    nodes: tuple[str, ...]
    """CPU and memory of each."""
    optional: dict[str, bool]
    """Whether each of OPTIONAL is served."""

    def lines(self) -> list[str]:
        """For the head of the report."""
        present = ", ".join(name for name, there in self.optional.items() if there) or "nothing"
        absent = ", ".join(name for name, there in self.optional.items() if not there) or "nothing"
        return [
            f"Kubernetes {self.kubernetes}; nodes: {', '.join(self.nodes) or 'none may be read'}",
            f"KServe {self.kserve or 'of an unknown version'}",
            f"volumes: {'of the default StorageClass' if self.has_volumes else 'none that go when deleted: emptyDir'}",
            f"also there: {present}; not there: {absent}",
        ]


def examine(objects: Objects) -> Found:
    """Look. Raises ClusterError when the API server does not answer."""
    version = objects.server.get_once("/version")
    return Found(
        kubernetes=str(version.get("gitVersion") or f"{version['major']}.{version['minor']}"),
        kserve=_kserve(objects),
        has_storage_container_name=_has_storage_container_name(objects),
        has_volumes=_has_volumes(objects),
        nodes=tuple(_size(node) for node in objects.find("v1", "Node")),
        optional={name: objects.serves(*kind) for name, kind in OPTIONAL.items()},
    )


def _kserve(objects: Objects) -> str:
    if not objects.serves(*KSERVE):
        return "absent"
    try:
        found = items(
            objects.server.get("/apis/apps/v1/deployments", labelSelector="control-plane=kserve-controller-manager")
        )
    except FairleadError:
        return ""
    images = [
        c["image"] for one in found for c in one["spec"]["template"]["spec"]["containers"] if "kserve" in c["image"]
    ]
    return images[0] if images else ""


def _has_storage_container_name(objects: Objects) -> bool:
    try:
        schemas = objects.server.get(f"/openapi/v3/apis/{KSERVE[0]}")["components"]["schemas"].values()
    except (FairleadError, KeyError):
        # Who does not publish its schemas is taken to be current: the deployment says what it refuses.
        return True
    for schema in schemas:
        if any(mark["kind"] == KSERVE[1] for mark in schema.get("x-kubernetes-group-version-kind", [])):
            spec = schema["properties"]["spec"]["properties"]
            return "storageContainerName" in spec["predictor"].get("properties", {"storageContainerName": {}})
    return True


def _has_volumes(objects: Objects) -> bool:
    classes = objects.find("storage.k8s.io/v1", "StorageClass")
    default = [c for c in classes if (c["metadata"].get("annotations") or {}).get(IS_DEFAULT) == "true"]
    return any(c.get("reclaimPolicy", "Delete") == "Delete" for c in default)


def _size(node: Object) -> str:
    free = node["status"]["allocatable"]
    return f"{node['metadata']['name']} ({free['cpu']} CPU, {free['memory']})"
