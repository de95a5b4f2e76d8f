"""Settings of the compiled pipeline: what Kubernetes gives each step."""

from typing import Annotated

from pydantic import Field, StringConstraints

from fairlead.config import Config
from fairlead.project import ObjectName

# Kubernetes' resource quantities, as far as KFP takes them.
Cpu = Annotated[str, StringConstraints(pattern=r"^([0-9]+m|[0-9]+(\.[0-9]+)?)$")]
Memory = Annotated[str, StringConstraints(pattern=r"^[0-9]+(Ki|M|Mi|G|Gi|T|Ti)?$")]


class CompileSettings(Config):
    """What a compiled pipeline asks of the cluster. The `light` steps are ingest, gate, register and deploy."""

    light_image: str | None = None
    """Image of the light steps. Default: the one `make images` builds for this release."""
    torch_image: str | None = None
    """Image of tokenize, train, evaluate and optimize. Default: the one `make images` builds for this release."""
    gpus: int = Field(0, ge=0, le=64)
    """GPUs of train, on each of its nodes; evaluate and optimize get one when this is not 0. Default 0: CPU only."""
    gpu_type: str = "nvidia.com/gpu"
    """Name of the GPU resource. Default `nvidia.com/gpu`."""
    cpu: Cpu = "2"
    """CPUs that tokenize, train (each of its nodes), evaluate and optimize ask for; there is no limit, but train
    without GPUs computes with as many. Default 2."""
    memory: Memory = "8Gi"
    """Memory that tokenize, train, evaluate and optimize ask for and may use, shared memory included. Default 8Gi."""
    light_cpu: Cpu = "1"
    """CPUs that the light steps ask for. Default 1."""
    light_memory: Memory = "2Gi"
    """Memory that the light steps ask for and may use. Default 2Gi: ingest needs 1.5 GB at most."""
    shm_size: Memory = "1Gi"
    """Size of `/dev/shm` in train, in memory: NCCL wants more than a pod's 64 MB. Default 1Gi."""
    secret: ObjectName | None = "fairlead"  # noqa: S105
    """Secret with FAIRLEAD_REGISTRY and, if wanted, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN, for train MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and
    for deploy FAIRLEAD_GIT_USERNAME and FAIRLEAD_GIT_PASSWORD. Default `fairlead`."""
    config_map: ObjectName | None = "fairlead"
    """ConfigMap with FAIRLEAD_STORE and, if wanted, AWS_ENDPOINT_URL and AWS_REGION, and for train
    MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and FAIRLEAD_TENSORBOARD. Default `fairlead`."""
    home_claim: ObjectName | None = None
    """PersistentVolumeClaim that holds FAIRLEAD_HOME in train, so that a step that is retried resumes from its
    checkpoint. Default: none."""
    retries: int = Field(0, ge=0, le=10)
    """Times a failed step is run again. Kubeflow retries whatever the exit code, also a mistake that a retry
    cannot help. Default 0."""
    cache_ingest: bool = False
    """Whether Kubeflow may reuse an ingest of the same addresses: only right when the run gives `source_digest`,
    as `fairlead run --on cluster` does. Default false."""
    training_runtime: ObjectName = "fairlead-torch"
    """ClusterTrainingRuntime of Kubeflow Trainer that runs the nodes when `training.nodes` is above 1. Default
    `fairlead-torch`, which is in manifests/base/trainer; Trainer's own is called `torch-distributed`."""
    queue: ObjectName | None = None
    """LocalQueue of Kueue that the nodes wait in. Default: none, they start when there is room."""
    tolerations: list[dict[str, str | int]] = Field(default_factory=list, max_length=32)
    """Taints that the nodes' pods tolerate, as Kubernetes writes them. Default: none."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the machines that the nodes' pods may run on. Default: any."""
    namespace: ObjectName | None = None
    """Namespace of the Kubernetes-native manifests. Default: none, so that kustomize sets it."""
