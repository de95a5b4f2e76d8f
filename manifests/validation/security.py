"""The restricted Pod Security Standard, and a little more: read-only root filesystems and no tokens that nobody uses.

Source: Kubernetes, Pod Security Standards, profile "restricted".
"""

from collections.abc import Iterator
from typing import Any

from manifests.validation.workloads import PodTemplate, pods

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
PROFILES = {"RuntimeDefault", "Localhost"}
# Capabilities that the profile lets be added.
ADDABLE = {"NET_BIND_SERVICE"}


def faults(found: dict[str, Any]) -> Iterator[str]:
    """What the admission of a restricted namespace would refuse."""
    for pod in pods(found):
        if pod.has_pod_settings:
            yield from _pod_faults(pod)
        for path, container in pod.containers():
            yield from _container_faults(path, container, pod)


def _pod_faults(pod: PodTemplate) -> Iterator[str]:
    spec, security = pod.spec, pod.spec.get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{pod.path}.{field}: a restricted pod may not"
    if security.get("runAsNonRoot") is not True:
        yield f"{pod.path}.securityContext.runAsNonRoot: it must be true"
    if security.get("runAsUser") == 0:
        yield f"{pod.path}.securityContext.runAsUser: it must not be 0"
    if (security.get("seccompProfile") or {}).get("type") not in PROFILES:
        yield f"{pod.path}.securityContext.seccompProfile.type: it must be RuntimeDefault"
    if spec.get("automountServiceAccountToken") is not False:
        yield f"{pod.path}.automountServiceAccountToken: it must be false, no pod here asks Kubernetes anything"
    for index, volume in enumerate(spec.get("volumes") or []):
        for kind in set(volume) - {"name"} - ALLOWED_VOLUMES:
            yield f"{pod.path}.volumes[{index}].{kind}: a restricted pod may not"


def _container_faults(path: str, container: dict[str, Any], pod: PodTemplate) -> Iterator[str]:
    security = container.get("securityContext") or {}
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{path}.securityContext.allowPrivilegeEscalation: it must be false"
    if security.get("privileged"):
        yield f"{path}.securityContext.privileged: a restricted container may not"
    capabilities = security.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield f"{path}.securityContext.capabilities.drop: it must have ALL"
    if set(capabilities.get("add") or []) - ADDABLE:
        yield f"{path}.securityContext.capabilities.add: a restricted container may not"
    # A training node writes its scratch files where its image has them.
    if security.get("readOnlyRootFilesystem") is not True and pod.kind != "ClusterTrainingRuntime":
        yield f"{path}.securityContext.readOnlyRootFilesystem: it must be true"
    if security.get("runAsUser") == 0 or security.get("runAsNonRoot") is False:
        yield f"{path}.securityContext: it must not run as root"
