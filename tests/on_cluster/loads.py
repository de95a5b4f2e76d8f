"""load.py in a pod of the cluster, asking through the Service as an application would."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.cluster.api_server import Object
from fairlead.errors import FairleadError
from tests.on_cluster.objects import Objects, wait

PROGRAM = Path(__file__).parent / "load.py"
LABEL = {"app.kubernetes.io/name": "load"}


@dataclass(frozen=True)
class Load:
    """A Job that asks."""

    objects: Objects
    name: str

    def started(self, seconds: float) -> None:
        """Wait for its first answer."""
        wait(lambda: "started" in self._lines() or None, seconds, f"load {self.name} gets an answer")

    def summary(self, seconds: float) -> dict[str, Any]:
        """Wait for its end, and return the counts."""

        def look() -> dict[str, Any] | None:
            last = (self._lines() or [""])[-1]
            return json.loads(last) if last.startswith("{") else None

        return wait(look, seconds, f"load {self.name} ends")

    def _lines(self) -> list[str]:
        for pod in self.objects.find("v1", "Pod", labelSelector=f"job-name={self.name}"):
            try:
                return list(
                    self.objects.server.lines(f"{self.objects.folder('v1', 'Pod')}/{pod['metadata']['name']}/log")
                )
            except FairleadError:
                # Its container is not there yet.
                return []
        return []


def start(objects: Objects, name: str, image: str, model: str, *arguments: str) -> Load:
    """Start asking a model."""
    service = objects.get("v1", "Service", f"{model}-predictor") or {}
    # KServe can be told to make Services without an address: their names lead to the pods themselves.
    port = ":8080" if (service.get("spec") or {}).get("clusterIP") == "None" else ""
    url = f"http://{model}-predictor{port}/v1/models/{model}:predict"
    for found in (_program(), _policy(), _job(name, image, ["--url", url, *arguments])):
        objects.apply(found)
    return Load(objects, name)


def told(counted: dict[str, Any]) -> str:
    """The counts in a line."""
    return (
        f"{counted['failed']} of {counted['requests']} requests were lost, by version {counted['versions']}, "
        f"longest time without an answer {counted['longest_gap_seconds']} s"
        + (f"; {counted['failures']}" if counted["failures"] else "")
    )


def _program() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "load"},
        "data": {"load.py": PROGRAM.read_text("utf-8")},
    }


def _policy() -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "load"},
        "spec": {
            "podSelector": {"matchLabels": LABEL},
            "policyTypes": ["Egress"],
            "egress": [
                {
                    "to": [{"podSelector": {"matchLabels": {"component": "predictor"}}}],
                    "ports": [{"protocol": "TCP", "port": 8080}],
                }
            ],
        },
    }


def _job(name: str, image: str, arguments: list[str]) -> Object:
    labels = {**LABEL, "app.kubernetes.io/part-of": "fairlead"}
    container = {
        "name": "load",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/load/load.py", *arguments],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "load", "mountPath": "/load", "readOnly": True}],
    }
    security = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security,
        "containers": [container],
        "volumes": [{"name": "load", "configMap": {"name": "load"}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }
