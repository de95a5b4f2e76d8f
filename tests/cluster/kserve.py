"""What KServe and a kubelet make of an InferenceService, in small: pods, and a service that answers as a version.

A version starts after `seconds_to_start`; one in `broken` never does, and its pod says why.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.cluster.kubernetes_objects import Cluster, Object, now

NAMESPACE, SERVICE_LABEL = "team", "serving.kserve.io/inferenceservice"


class KServe:
    """Follows the InferenceServices of a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        broken: dict[str, Object],
        seconds_to_start: float = 0.2,
        digest: Callable[[str], str] | None = None,
    ) -> None:
        """`broken` has, by version (`v0003`), the status of the pod that fails; `digest` is what a version tells."""
        self._cluster, self._broken, self._seconds = cluster, broken, seconds_to_start
        self._digest = digest or digest_of
        self._seen: dict[str, tuple[str, float]] = {}
        self._answers: dict[str, str] = {}
        self.ending = threading.Event()
        self.unready = False
        """Whether something beside the pods, such as the ingress, does not become ready."""

    def run(self) -> None:
        """Until `ending` is set."""
        while not self.ending.wait(0.02):
            present = self._cluster.select("inferenceservices", NAMESPACE, {})
            for found in present:
                self._reconcile(found)
            for name in set(self._seen) - {found["metadata"]["name"] for found in present}:
                del self._seen[name]
                self._answers.pop(name, None)

    def _reconcile(self, found: Object) -> None:
        name, uri = found["metadata"]["name"], found["spec"]["predictor"]["model"]["storageUri"]
        if self._seen.get(name, ("", 0.0))[0] != uri:
            self._seen[name] = (uri, time.monotonic())
            self._make_pod(name, uri)
            self._cluster.services[f"{name}-predictor:80"] = lambda path: self._metadata(name)
        project, version = uri.rstrip("/").split("/")[-2:]
        if version not in self._broken and time.monotonic() - self._seen[name][1] > self._seconds:
            self._answers[name] = f"{project}_v{int(version[1:])}"
        self._cluster.update("inferenceservices", name, lambda o: o.update(status=self._status(name)))

    def _make_pod(self, name: str, uri: str) -> None:
        version = uri.rstrip("/").rpartition("/")[2]
        status: Any = self._broken.get(version, {"phase": "Running"})
        if status is None:
            return
        pod = {"metadata": {"name": f"{name}-{version}", "namespace": NAMESPACE, "labels": {SERVICE_LABEL: name}}}
        self._cluster.make("pods", {**pod, "status": {"phase": "Pending", **status}})
        self._cluster.update("pods", f"{name}-{version}", lambda p: p["metadata"].update(creationTimestamp=now()))

    def _status(self, name: str) -> Object:
        """Ready as soon as any version answers: KServe says so while the one before still does."""
        if self.unready:
            return {
                "conditions": [{"type": "Ready", "status": "False", "reason": "NoIngress", "message": "no gateway"}]
            }
        return {"conditions": [{"type": "Ready", "status": "True" if name in self._answers else "False"}]}

    def _metadata(self, name: str) -> Object | None:
        if name not in self._answers:
            return None
        parameters = {"digest": self._digest(self._answers[name])}
        return {"name": name, "versions": [self._answers[name]], "parameters": parameters}


def digest_of(version: str) -> str:
    """The digest that the server of a version tells."""
    return f"sha256:{version}"
