"""The InferenceService of a model version, as manifests/base/inference-service has it: a test compares the two."""

from fairlead.cluster.api_server import Object
from fairlead.errors import ConfigError
from fairlead.names import PROJECT_LABEL, VERSION_LABEL, kubernetes_name

API_VERSION = "serving.kserve.io/v1beta1"
RUNTIME, STORAGE_CONTAINER, ACCOUNT, PRIORITY = "fairlead", "fairlead-s3", "fairlead-serving", "fairlead-serving"
# The 5 s of the runtime's preStop pause, then what was accepted is answered.
GRACE_SECONDS = 45
USER_ID = 1000


def inference_service(project: str, number: int, root: str) -> Object:
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
        "spec": {"predictor": _predictor(storage_uri(project, number, root))},
    }


def storage_uri(project: str, number: int, root: str) -> str:
    """Address of a version in the store. The / at its end matters: it is a prefix of keys."""
    if not root.startswith("s3://"):
        raise ConfigError(f"store: {root} is no address that a pod reaches; set FAIRLEAD_STORE to s3://<bucket>")
    return f"{root.rstrip('/')}/{project}/v{number:04d}/"


def _predictor(address: str) -> Object:
    return {
        "storageContainerName": STORAGE_CONTAINER,
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": PRIORITY,
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
