"""Which images the nodes have, or get: asked by pods that name them, since no list of a node is complete."""

import time

from fairlead.cluster.api_server import Object, items
from fairlead.errors import FairleadError
from tests.on_cluster.objects import Objects, wait

# What a container waits for when its image is not to be had; every other reason comes after the image.
ABSENT = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "InvalidImageName",
    "RegistryUnavailable",
}
COMING = {None, "ContainerCreating", "PodInitializing"}


def ask(objects: Objects, candidates: dict[str, list[str]], seconds: float) -> dict[str, tuple[str, str]]:
    """The first reference of each name that nodes have or get within `seconds`, or why there is none.

    By name the reference, and empty or the reason. All are asked at once.
    """
    pods = {
        (name, reference): f"image-{name.rpartition('/')[2]}-{index}"
        for name, references in candidates.items()
        for index, reference in enumerate(dict.fromkeys(filter(None, references)))
    }
    for (_, reference), pod in pods.items():
        objects.apply(_pod(pod, reference))
    deadline = time.monotonic() + seconds
    found: dict[str, tuple[str, str]] = {}
    for (name, reference), pod in pods.items():
        if found.get(name, ("", "none"))[1]:
            why = _answer(objects, pod, deadline - time.monotonic())
            if name not in found or not why:
                found[name] = reference, why
    for pod in pods.values():
        objects.server.delete(f"{objects.folder('v1', 'Pod')}/{pod}")
    return found


def _answer(objects: Objects, pod: str, seconds: float) -> str:
    try:
        return wait(lambda: _look(objects, pod), max(seconds, 0.0), pod)
    except AssertionError:
        status = (objects.get("v1", "Pod", pod) or {}).get("status") or {}
        waits = [c for c in status.get("conditions") or [] if c["type"] == "PodScheduled" and c["status"] == "False"]
        return str(waits[0].get("message")) if waits else "no node began its pod"


def _look(objects: Objects, pod: str) -> str | None:
    """Empty when the image is there, else why not; None while that is not known."""
    status = (objects.get("v1", "Pod", pod) or {}).get("status") or {}
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting is None:
            return ""
        if waiting.get("reason") in ABSENT:
            return f"{waiting['reason']}: {' '.join(str(waiting.get('message')).split())[:200]}"
        if waiting.get("reason") not in COMING:
            return ""
    return None


def known(objects: Objects, part: str) -> list[str]:
    """References that nodes list, or pods use, which have `part` in them, such as `minio/minio`."""
    listed = [name for node in objects.find("v1", "Node") for image in _images(node) for name in image]
    try:
        used = items(objects.server.get("/api/v1/pods"))
    except FairleadError:
        used = []
    listed += [c["image"] for pod in used for c in pod["spec"].get("containers", [])]
    # A tag before a digest: what was imported from an archive has no digest of a registry.
    chosen = {name for name in listed if f"{part}:" in name or f"{part}@" in name}
    return sorted(chosen, key=lambda name: ("@" in name, name))


def _images(node: Object) -> list[list[str]]:
    return [image.get("names") or [] for image in (node.get("status") or {}).get("images") or []]


def _pod(name: str, reference: str) -> Object:
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "image",
                    "image": reference,
                    "imagePullPolicy": "IfNotPresent",
                    # Where the image has no such program the container fails, and the image was there.
                    "command": ["/bin/true"],
                    "resources": resources,
                    "securityContext": security,
                }
            ],
        },
    }
