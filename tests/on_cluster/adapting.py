"""What kustomize makes of the manifests, turned into what one run of the suite applies: its namespace and names, the
images that the nodes have, and requests that fit a node of two cores. Everything else stays as it would be installed.
"""

import base64
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from fairlead.cluster.api_server import Object
from manifests.validation.workloads import pods
from tests.on_cluster.space import RUN, Run

NAMESPACE = "fairlead"
# CPU and memory that a container asks for; limits stay. A model server on torch takes 500 MiB.
REQUESTS = {"fairlead-serving": ("100m", "512Mi"), "minio/minio": ("50m", "256Mi")}
OTHER_REQUESTS = ("25m", "128Mi")
STORAGE = "1Gi"


@dataclass(frozen=True)
class Plan:
    """How the manifests are fitted to a cluster."""

    run: Run
    images: dict[str, str] = field(default_factory=dict)
    """The reference to use for an image, by its name in the manifests without tag and digest."""
    has_volumes: bool = True
    """Whether claims are bound, and gone with the namespace."""
    left_out: frozenset[tuple[str, str]] = frozenset()
    """Kind and name of what is not applied."""
    bucket: str = "fairlead"
    store: str = ""
    """URL of an S3 that is there already."""
    credentials: tuple[str, str] | None = None
    """Of that S3."""
    has_registry: bool = True


def adapted(built: list[Any], plan: Plan) -> list[Object]:
    """The objects to apply, in kustomize's order; the namespace itself is made before."""
    chosen = [o for o in built if o["kind"] != "Namespace" and (o["kind"], o["metadata"]["name"]) not in plan.left_out]
    return [_adapt(deepcopy(found), plan) for found in chosen]


def labels_of_namespace(built: list[Any]) -> dict[str, str]:
    """The labels of the manifests' namespace: what pods it takes."""
    (found,) = (o for o in built if o["kind"] == "Namespace")
    return dict(found["metadata"]["labels"])


def _adapt(found: Object, plan: Plan) -> Object:
    metadata = found["metadata"]
    metadata["labels"] = {**metadata.get("labels", {}), RUN: plan.run.id}
    if found["kind"] == "ClusterServingRuntime":
        # The same without a trace outside the namespace, where it comes before one of the cluster.
        found["kind"] = "ServingRuntime"
        metadata["namespace"] = NAMESPACE
    if "namespace" in metadata:
        metadata["namespace"] = plan.run.namespace
    else:
        metadata["name"] = plan.run.cluster_wide(metadata["name"])
    _rename(found, plan)
    if found["kind"] == "Secret":
        _adapt_secret(found, plan)
    elif found["kind"] == "StatefulSet":
        _adapt_volumes(found["spec"], plan)
    elif found["kind"] == "ClusterStorageContainer":
        # No other model's address begins so: this container is never taken for another's.
        found["spec"]["supportedUriFormats"] = [{"prefix": f"s3://{plan.bucket}/models/{plan.run.project}/"}]
    for pod in pods(found):
        for _, container in pod.containers():
            _adapt_container(container, plan)
    texts: Object = _replaced(found, plan)
    return texts


def _rename(found: Object, plan: Plan) -> None:
    for pod in pods(found):
        for name in ("priorityClassName", "storageContainerName"):
            if name in pod.spec:
                pod.spec[name] = plan.run.cluster_wide(pod.spec[name])


def _adapt_container(container: Object, plan: Plan) -> None:
    name = container["image"].partition("@")[0]
    name = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
    container["image"] = plan.images.get(name, container["image"])
    container["imagePullPolicy"] = "IfNotPresent"
    cpu, memory = next((size for part, size in REQUESTS.items() if name.endswith(part)), OTHER_REQUESTS)
    container.setdefault("resources", {})["requests"] = {"cpu": cpu, "memory": memory}


def _adapt_volumes(spec: Object, plan: Plan) -> None:
    if plan.has_volumes:
        for claim in spec["volumeClaimTemplates"]:
            claim["spec"]["resources"]["requests"]["storage"] = STORAGE
        return
    spec.pop("persistentVolumeClaimRetentionPolicy")
    names = [claim["metadata"]["name"] for claim in spec.pop("volumeClaimTemplates")]
    spec["template"]["spec"]["volumes"] += [{"name": name, "emptyDir": {"sizeLimit": STORAGE}} for name in names]


def _adapt_secret(found: Object, plan: Plan) -> None:
    data = {name: base64.b64decode(value).decode() for name, value in found["data"].items()}
    if not plan.has_registry:
        data.pop("FAIRLEAD_REGISTRY", None)
    if plan.credentials and "AWS_ACCESS_KEY_ID" in data:
        data["AWS_ACCESS_KEY_ID"], data["AWS_SECRET_ACCESS_KEY"] = plan.credentials
    found["data"] = {name: base64.b64encode(_text(value, plan).encode()).decode() for name, value in data.items()}
    annotations = found["metadata"].get("annotations", {})
    if plan.store and "serving.kserve.io/s3-endpoint" in annotations:
        scheme, _, host = plan.store.partition("://")
        annotations["serving.kserve.io/s3-endpoint"] = host
        annotations["serving.kserve.io/s3-usehttps"] = "1" if scheme == "https" else "0"


def _replaced(value: Any, plan: Plan) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(inner, plan) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, plan) for inner in value]
    return _text(value, plan) if isinstance(value, str) else value


def _text(value: str, plan: Plan) -> str:
    if plan.store and value == f"http://minio.{NAMESPACE}.svc:9000":
        return plan.store
    if value == f"s3://{NAMESPACE}":
        return f"s3://{plan.bucket}"
    return value.replace(f".{NAMESPACE}.svc", f".{plan.run.namespace}.svc")
