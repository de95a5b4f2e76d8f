"""What a cluster takes and its owner does not want: floating images, clear secrets, pods without limits or probes."""

import re
from collections.abc import Iterator
from typing import Any

from manifests.validation.workloads import LASTING, PodTemplate, pods

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
NO_DIGEST = re.compile(r"@sha256:0{64}$")
# Built from this repository: their digests are known once they are pushed, so an overlay sets them.
OWN_IMAGES = re.compile(r"(^|/)fairlead-(light|torch|serving)\b")
SECRET_WORDS = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", re.IGNORECASE)
# Names of files and switches whose name only sounds like it.
NO_SECRETS = re.compile(r"_FILE$|^AWS_REGION$")
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "InferenceService", "ClusterServingRuntime"}
LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/part-of")


def faults(found: dict[str, Any], is_production: bool = False) -> Iterator[str]:
    """What is wrong with an object; in production also what is fine while developing."""
    yield from _label_faults(found)
    if found["kind"] == "Secret" and is_production:
        yield "$: a secret in clear; refer to one (component external-secrets)"
    if found["kind"] == "ConfigMap":
        for name, value in (found.get("data") or {}).items():
            if "PRIVATE KEY-----" in value or re.search(r"://[^/\s:@]+:[^/\s:@]+@", value):
                yield f"$.data.{name}: a secret in clear"
    for pod in pods(found):
        for path, container in pod.containers():
            yield from _image_faults(path, container, is_production)
            yield from _environment_faults(path, container)
            yield from _temporary_faults(path, container)
            # A training node's resources come with the TrainJob.
            if pod.kind != "ClusterTrainingRuntime":
                yield from _resource_faults(path, container)
            yield from _probe_faults(path, container, pod)


def _label_faults(found: dict[str, Any]) -> Iterator[str]:
    labels = (found.get("metadata") or {}).get("labels") or {}
    for name in LABELS:
        if found["kind"] in WORKLOADS and name not in labels:
            yield f"$.metadata.labels: {name} is missing"


def _image_faults(path: str, container: dict[str, Any], is_production: bool) -> Iterator[str]:
    image = str(container.get("image") or "")
    is_own = bool(OWN_IMAGES.search(image))
    if (is_production or not is_own) and not DIGEST.search(image):
        yield f"{path}.image: {image!r} is not pinned by digest"
    if not is_own and NO_DIGEST.search(image):
        yield f"{path}.image: {image!r} is pinned by a digest that no image has"


def _environment_faults(path: str, container: dict[str, Any]) -> Iterator[str]:
    for entry in container.get("env") or []:
        name = entry.get("name", "")
        if "value" in entry and SECRET_WORDS.search(name) and not NO_SECRETS.search(name):
            yield f"{path}.env: {name} is a secret in clear; use valueFrom.secretKeyRef"


def _temporary_faults(path: str, container: dict[str, Any]) -> Iterator[str]:
    """Our commands report through a temporary file, and so does torch when it is imported."""
    security = container.get("securityContext") or {}
    if not OWN_IMAGES.search(str(container.get("image"))) or security.get("readOnlyRootFilesystem") is not True:
        return
    mounts = any(mount.get("mountPath") == "/tmp" for mount in container.get("volumeMounts") or [])  # noqa: S108
    if not mounts and all(entry.get("name") != "TMPDIR" for entry in container.get("env") or []):
        yield f"{path}: its root is read-only and there is no place for temporary files; mount /tmp or set TMPDIR"


def _resource_faults(path: str, container: dict[str, Any]) -> Iterator[str]:
    resources = container.get("resources") or {}
    for name in ("cpu", "memory"):
        if name not in (resources.get("requests") or {}):
            yield f"{path}.resources.requests.{name}: it is missing"
    if "memory" not in (resources.get("limits") or {}):
        yield f"{path}.resources.limits.memory: it is missing"


def _probe_faults(path: str, container: dict[str, Any], pod: PodTemplate) -> Iterator[str]:
    if pod.kind not in LASTING or ".initContainers" in path:
        return
    for probe in ("readinessProbe", "livenessProbe"):
        if probe not in container:
            yield f"{path}.{probe}: it is missing"
