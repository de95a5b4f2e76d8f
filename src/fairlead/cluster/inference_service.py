"""The InferenceService of a model version, as manifests/base/inference-service has it: a test compares the two."""

from dataclasses import dataclass

from fairlead.cluster.api_server import Object
from fairlead.errors import ConfigError
from fairlead.names import PROJECT_LABEL, VERSION_LABEL, kubernetes_name

API_VERSION = "serving.kserve.io/v1beta1"
RUNTIME, ACCOUNT = "fairlead", "fairlead-serving"
# The 5 s of the runtime's preStop pause, then what was accepted is answered.
GRACE_SECONDS = 45
USER_ID = 1000


@dataclass(frozen=True)
class Shared:
    """Names of what all namespaces of a cluster share; two installations in one cluster need two of each."""

    storage_container: str = "fairlead-s3"
    """The ClusterStorageContainer that fetches versions."""
    priority_class: str = "fairlead-serving"
    """Of the pods."""


SHARED = Shared()


def inference_service(project: str, number: int, root: str, shared: Shared = SHARED) -> Object:
    """The object that serves a version whose folder is `<root>/<project>/v<number>/`; `root` is `s3://.../models`.

    Raises ConfigError for a store that no pod reaches.
    """
    name = kubernetes_name(project)
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/name": "fairlead-serving",
                "app.kubernetes.io/component": "serving",
                "app.kubernetes.io/part-of": "fairlead",
                PROJECT_LABEL: project,
                VERSION_LABEL: f"v{number:04d}",
            },
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "serving.kserve.io/autoscalerClass": "none",
            },
        },
        "spec": {"predictor": _predictor(storage_uri(project, number, root), shared)},
    }


def storage_uri(project: str, number: int, root: str) -> str:
    """Address of a version in the store. The / at its end matters: it is a prefix of keys."""
    if not root.startswith("s3://"):
        raise ConfigError(f"store: {root} is no address that a pod reaches; set FAIRLEAD_STORE to s3://<bucket>")
    return f"{root.rstrip('/')}/{project}/v{number:04d}/"


def served_uri(found: Object) -> str:
    """The address of the version that an InferenceService names."""
    return str(found["spec"]["predictor"].get("model", {}).get("storageUri", ""))


def unready(found: Object) -> str:
    """What KServe says that an InferenceService still lacks; empty when it says Ready."""
    status = found.get("status")
    if not status:
        # Its controller writes a status within a second, also of what it cannot serve.
        return "nothing has taken up the InferenceService: see whether KServe's controller runs"
    ready: Object = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), {})
    if ready.get("status") == "True":
        return ""
    said = " ".join(f"{ready.get('reason') or ''} {ready.get('message') or ''}".split())
    return f"KServe does not say Ready: {said[:300]}" if said else "KServe does not say Ready"


def _predictor(address: str, shared: Shared) -> Object:
    return {
        "storageContainerName": shared.storage_container,
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": shared.priority_class,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"component": "predictor"}},
            }
        ],
        "minReplicas": 1,
        "maxReplicas": 1,
        "model": {"modelFormat": {"name": "fairlead", "version": "1"}, "runtime": RUNTIME, "storageUri": address},
    }
