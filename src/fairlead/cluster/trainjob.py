"""The TrainJob that a run asks for, made for the version that the cluster serves.

What belongs to every pod of a runtime (exit codes, restarts, security, grace period) stands in
manifests/base/trainer/runtime.yaml; here is what differs from run to run. The command is that of
fairlead.training.launching.node, and nothing secret is written into the object.
"""

import os
from dataclasses import dataclass
from typing import Any

from fairlead import places, provenance
from fairlead.cluster.api_server import Object
from fairlead.cluster.config import CompileSettings
from fairlead.cluster.served import KIND, Served
from fairlead.errors import ConfigError
from fairlead.formats.digests import of_json
from fairlead.names import (
    CPUS_ENV,
    LABEL_PREFIX,
    MLFLOW_URI_ENV,
    PROJECT_LABEL,
    REGISTRY_ENV,
    RUN_LABEL,
    SINK_CONFIG_KEYS,
    SINK_SECRET_KEYS,
    STORE_ENV,
    kubernetes_name,
)
from fairlead.storage.redaction import redact
from fairlead.training.launching.job import Job

CONTENT = LABEL_PREFIX + "content"
FOLLOWER = LABEL_PREFIX + "follower"
KUEUE, QUEUE_LABEL = "kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/queue-name"
PATCH_MANAGER = LABEL_PREFIX + "train"
# The job and the container that Trainer's runtimes call so.
NODE = "node"
# JobSet adds `-node-0-0-` and 5 characters to name a pod, and a host name has 63 at most.
MAX_PROJECT_CHARACTERS = 30
# Ranks get 28 s to write a checkpoint; the rest is for the launcher and the report.
GRACE_SECONDS = 60
PLAIN_KEYS = ("AWS_ENDPOINT_URL", "AWS_REGION", "FAIRLEAD_REVISION", provenance.IMAGE_DIGEST_ENV, *SINK_CONFIG_KEYS)
SECRET_KEYS = (REGISTRY_ENV, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", *SINK_SECRET_KEYS)


@dataclass(frozen=True)
class Follower:
    """The step that follows a TrainJob: its pod, and what owns that."""

    name: str
    owner: Object | None = None
    """An ownerReference: what is deleted with it takes the TrainJob along."""


def trainjob_name(job: Job) -> str:
    """The same whenever the same training is asked for: `support-topics-43b037d9b5be`."""
    project = kubernetes_name(job.project)[:MAX_PROJECT_CHARACTERS].rstrip("-")
    return f"{project}-{job.run_id.removeprefix('run_')}"


def make_trainjob(job: Job, settings: CompileSettings, served: Served, image: str, follower: Follower) -> Object:
    """The TrainJob of a run. Raises ConfigError when the cluster's version has no place for what is asked."""
    spec = {
        "runtimeRef": {"name": settings.training_runtime},
        "suspend": False,
        "trainer": _trainer(job, settings, image),
        **_patches(_pod(settings), served),
    }
    metadata: Object = {
        "name": trainjob_name(job),
        "labels": {
            "app.kubernetes.io/managed-by": "fairlead",
            PROJECT_LABEL: job.project,
            RUN_LABEL: job.run_id,
            **({QUEUE_LABEL: settings.queue} if settings.queue else {}),
        },
        "annotations": {CONTENT: of_json([spec, settings.queue]), FOLLOWER: follower.name},
        **({"ownerReferences": [follower.owner]} if follower.owner else {}),
    }
    found = {"apiVersion": served.api_version, "kind": KIND, "metadata": metadata, "spec": spec}
    served.check(found)
    return found


def _trainer(job: Job, settings: CompileSettings, image: str) -> Object:
    return {
        "image": image,
        "command": ["python", "-m", "fairlead.training.launching.node"],
        "args": [job.run_id],
        "numNodes": job.training.nodes,
        # Left out, a runtime on CPUs would start one rank a CPU.
        "numProcPerNode": job.training.processes or settings.gpus or 1,
        "resourcesPerNode": _resources(settings),
        "env": _environment(settings),
    }


def _resources(settings: CompileSettings) -> Object:
    gpus = {settings.gpu_type: settings.gpus} if settings.gpus else {}
    return {
        "requests": {"cpu": settings.cpu, "memory": settings.memory, **gpus},
        "limits": {"memory": settings.memory, **gpus},
    }


def _environment(settings: CompileSettings) -> list[Object]:
    """The store is that of this step, by its address; what may be secret comes from the Secret by name."""
    values = {STORE_ENV: places.store_url()} | {key: os.environ[key] for key in PLAIN_KEYS if os.environ.get(key)}
    # Beside GPUs the cores of the node are not what computes.
    values |= {} if settings.gpus else {CPUS_ENV: settings.cpu}
    for name, value in values.items():
        if redact(value) != value:
            where = "MLFLOW_TRACKING_USERNAME" if name == MLFLOW_URI_ENV else "AWS_ACCESS_KEY_ID"
            raise ConfigError(f"{name}: {redact(value)} carries credentials; set them by {where} in the Secret instead")
    env: list[Object] = [{"name": name, "value": value} for name, value in values.items()]
    for key in SECRET_KEYS if settings.secret else ():
        reference = {"name": settings.secret, "key": key, "optional": key != REGISTRY_ENV}
        env.append({"name": key, "valueFrom": {"secretKeyRef": reference}})
    return env


def _pod(settings: CompileSettings) -> Object:
    """What the pods have beside what their runtime gives them."""
    memory = {"medium": "Memory", "sizeLimit": settings.shm_size}
    return {
        "volumes": [{"name": "dshm", "emptyDir": memory}],
        "containers": [{"name": NODE, "volumeMounts": [{"name": "dshm", "mountPath": "/dev/shm"}]}],  # noqa: S108
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        **({"tolerations": settings.tolerations} if settings.tolerations else {}),
        **({"nodeSelector": settings.node_selector} if settings.node_selector else {}),
    }


def _patches(pod: Object, served: Served) -> Object:
    """The patch of the pods, under the name and in the form that this version of TrainJob has for it."""
    inside = "trainingRuntimeSpec.template.spec.replicatedJobs[].template.spec.template.spec"
    if served.takes(f"spec.runtimePatches[].{inside}"):  # v2.2 on
        pod = _accepted(pod, served, f"spec.runtimePatches[].{inside}")
        jobs: Any = [{"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}]
        patch = {"manager": PATCH_MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}
        return {"runtimePatches": [patch]}
    target = [{"name": NODE}]
    if served.takes("spec.podTemplateOverrides"):  # v2.1
        pod = _accepted(pod, served, "spec.podTemplateOverrides[].spec")
        return {"podTemplateOverrides": [{"targetJobs": target, "spec": pod}]}
    if served.takes("spec.podSpecOverrides"):  # v2.0
        pod = _accepted(pod, served, "spec.podSpecOverrides[]")
        return {"podSpecOverrides": [{"targetJobs": target, **pod}]}
    raise ConfigError(
        f"TrainJob: the cluster's {served.api_version} has no way to patch pods that is known here (runtimePatches, "
        "podTemplateOverrides, podSpecOverrides); install Kubeflow Trainer v2.3, or a newer Fairlead"
    )


def _accepted(pod: Object, served: Served, path: str) -> Object:
    """Without the grace period where a patch cannot set it (before v2.3): our runtime sets the same one."""
    optional = "terminationGracePeriodSeconds"
    return {name: value for name, value in pod.items() if name != optional or served.takes(f"{path}.{name}")}
