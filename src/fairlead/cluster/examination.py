"""What a cluster would refuse of our manifests and of what our commands send, and what to do about it.

Everything is read that any account may read: the version, the discovery and the published schemas. Nothing is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fairlead.cluster.api_server import ApiServer
from fairlead.cluster.findings import Finding, Level
from fairlead.cluster.trainjob import KUEUE
from fairlead.errors import ConfigError, NotFound

# The `sleep` of a container's preStop, which our runtime has, is on by default from here.
OLDEST_KUBERNETES = (1, 30)


@dataclass(frozen=True)
class Need:
    """A kind, or a field of it, that something of ours uses."""

    kind: str
    api_version: str
    user: str
    """What uses it."""
    remedy: str
    fields: tuple[str, ...] = ()
    optional: bool = True


KSERVE, TRAINER = "serving.kserve.io", "trainer.kubeflow.org/v1alpha1"
INSTALL_KSERVE = "install KServe 0.20"
NEEDS = (
    Need("InferenceService", f"{KSERVE}/v1beta1", "serving", INSTALL_KSERVE, ("spec.predictor.model",), optional=False),
    Need(
        "InferenceService",
        f"{KSERVE}/v1beta1",
        "base/inference-service",
        INSTALL_KSERVE,
        ("spec.predictor.storageContainerName", "spec.predictor.deploymentStrategy"),
        optional=False,
    ),
    Need("InferenceService", f"{KSERVE}/v1beta1", "component canary-standard", INSTALL_KSERVE, ("spec.canary",)),
    Need("ClusterServingRuntime", f"{KSERVE}/v1alpha1", "base/serving", INSTALL_KSERVE, optional=False),
    Need(
        "ClusterStorageContainer",
        f"{KSERVE}/v1alpha1",
        "base/serving",
        INSTALL_KSERVE,
        ("spec.workloadType",),
        optional=False,
    ),
    Need(
        "HTTPRoute",
        "gateway.networking.k8s.io/v1",
        "component canary-standard",
        "install the Gateway API and a gateway: without them a canary's pods start and get no traffic",
    ),
    Need("TrainJob", TRAINER, "training.nodes above 1", "install Kubeflow Trainer 2.1 or later", ("spec.trainer",)),
    Need(
        "TrainJob",
        TRAINER,
        "pods of training.nodes with a node selector or tolerations",
        "install Kubeflow Trainer 2.3: before it the field was called podSpecOverrides",
        ("spec.runtimePatches",),
    ),
    Need("ClusterTrainingRuntime", TRAINER, "base/trainer", "install Kubeflow Trainer 2.3"),
    Need("Workload", KUEUE, "cluster.queue", "install Kueue 0.16 or later; older ones serve v1beta1 only"),
    Need("Pipeline", "pipelines.kubeflow.org/v2beta1", "base/pipelines", "install Kubeflow Pipelines 2.14 or later"),
    Need("ScaledObject", "keda.sh/v1alpha1", "component autoscale-queue", "install KEDA"),
    Need("Service", "serving.knative.dev/v1", "component scale-to-zero", "install Knative Serving"),
    Need("PodMonitor", "monitoring.coreos.com/v1", "base/monitoring", "install the Prometheus operator"),
    Need("ExternalSecret", "external-secrets.io/v1", "component external-secrets", "install External Secrets 0.17"),
    Need("NodeMetrics", "metrics.k8s.io/v1beta1", "component autoscale-cpu", "install the metrics server"),
)
# Group, resource and verb of everything that our commands do in a namespace, with who does it.
PERMISSIONS = (
    ("serving.kserve.io", "inferenceservices", "patch", "fairlead deploy --direct"),
    ("serving.kserve.io", "inferenceservices", "watch", "fairlead deploy --direct"),
    ("serving.kserve.io", "inferenceservices", "get", "fairlead status"),
    ("", "configmaps", "patch", "fairlead deploy --direct"),
    ("", "services/proxy", "get", "fairlead status"),
    ("", "pods", "list", "fairlead status"),
    ("", "pods/log", "get", "the reason of a crash"),
    ("", "events", "list", "the reason of a pod that is not made"),
)


def examine(server: ApiServer) -> Iterator[Finding]:
    """Every finding, the version first. Raises ClusterError when the API server does not answer."""
    yield _kubernetes(server)
    schemas = _Schemas(server)
    yield from (_need(need, schemas) for need in NEEDS)
    yield from (_permission(server, *permission) for permission in PERMISSIONS)


class _Schemas:
    """The published schemas of a cluster, each group read once."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._groups: dict[str, dict[str, Any]] = {}

    def of(self, need: Need) -> dict[str, Any] | None:
        """Of a kind; None when the cluster does not serve it, an empty one when it does not publish it."""
        if need.api_version not in self._groups:
            self._groups[need.api_version] = self._read(need.api_version)
        return self._groups[need.api_version].get(need.kind)

    def _read(self, api_version: str) -> dict[str, Any]:
        try:
            kinds = [entry["kind"] for entry in self._server.get_once(f"/apis/{api_version}").get("resources", [])]
        except NotFound:
            return {}
        found: dict[str, Any] = {kind: {} for kind in kinds}
        try:
            published = self._server.get_once(f"/openapi/v3/apis/{api_version}")
        except NotFound:
            return found
        for schema in published.get("components", {}).get("schemas", {}).values():
            for mark in schema.get("x-kubernetes-group-version-kind", []):
                found[mark["kind"]] = schema
        return found


def _kubernetes(server: ApiServer) -> Finding:
    said = server.get_once("/version")
    version = f"{said.get('major')}.{said.get('minor')}"
    numbers = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split("."))
    if numbers < OLDEST_KUBERNETES:
        return Finding(
            "Kubernetes", "problem", f"{version}: it refuses preStop.sleep of the runtime", "use 1.30 or later"
        )
    return Finding("Kubernetes", "ok", version)


def _need(need: Need, schemas: _Schemas) -> Finding:
    level: Level = "note" if need.optional else "problem"
    schema = schemas.of(need)
    if schema is None:
        return Finding(need.kind, level, f"{need.api_version} is not served; {need.user} needs it", need.remedy)
    missing = [field for field in need.fields if schema and not _has(schema, field)]
    if missing:
        return Finding(need.kind, level, f"{missing[0]} is unknown here; {need.user} needs it", need.remedy)
    return Finding(need.kind, "ok", f"{need.api_version}: {', '.join(need.fields) or 'served'}, for {need.user}")


def _has(schema: dict[str, Any], path: str) -> bool:
    for name in path.split("."):
        schema = schema.get("items", schema)
        if name not in schema.get("properties", {}):
            return bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        schema = schema["properties"][name]
    return True


def _permission(server: ApiServer, group: str, resource: str, verb: str, user: str) -> Finding:
    name, _, sub = resource.partition("/")
    attributes = {"namespace": server.namespace, "verb": verb, "group": group, "resource": name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes | ({"subresource": sub} if sub else {})},
    }
    try:
        allowed = server.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)["status"]["allowed"]
    except (ConfigError, NotFound):
        return Finding(f"{verb} {resource}", "note", "whether it is allowed cannot be asked here")
    if allowed:
        return Finding(f"{verb} {resource}", "ok", f"allowed in namespace {server.namespace}")
    where = f"not allowed in namespace {server.namespace}; {user} needs it"
    return Finding(f"{verb} {resource}", "note", where, "bind the role of manifests/base/deployer")
