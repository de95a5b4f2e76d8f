"""What a compiled task is given beside its inputs: image, resources, shared memory, environment."""

import json
from collections.abc import Callable
from typing import Any

from components.images import HOME, LIGHT_IMAGE, USER_ID
from fairlead.cluster.config import CompileSettings
from fairlead.names import (
    AT_HOME,
    CHECKPOINTS_ENV,
    CLUSTER_ENV,
    CPUS_ENV,
    GIT_PASSWORD_ENV,
    GIT_USERNAME_ENV,
    IN_STORE,
    NAMESPACE_ENV,
    POD_ENV,
    REGISTRY_ENV,
    SINK_CONFIG_KEYS,
    SINK_SECRET_KEYS,
    STORE_ENV,
)
from fairlead.provenance import IMAGE_DIGEST_ENV

Keys = tuple[str, ...]

# Environment variables by where they come from; the optional ones may be missing (an instance role, AWS itself).
SECRET_KEYS: Keys = (REGISTRY_ENV,)
OPTIONAL_SECRET_KEYS: Keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
CONFIG_KEYS: Keys = (STORE_ENV,)
NODE_SETTINGS = {
    "torch_image",
    "gpus",
    "gpu_type",
    "cpu",
    "memory",
    "shm_size",
    "secret",
    "training_runtime",
    "queue",
    "tolerations",
    "node_selector",
}
OPTIONAL_CONFIG_KEYS: Keys = ("AWS_ENDPOINT_URL", "AWS_REGION")


def settler(settings: CompileSettings, kubernetes: Any, nodes: int = 1) -> Callable[[Any], Any]:
    """A function that gives a task of KFP what `settings` say; `kubernetes` is the module kfp.kubernetes.

    With several `nodes`, train only starts and follows them: it asks for what a light step does.
    """
    thin = nodes > 1

    def settle(task: Any) -> Any:
        _place(task, settings, light=task.container_spec.image == LIGHT_IMAGE, thin=thin)
        _connect(task, settings, kubernetes)
        kubernetes.set_security_context(task, run_as_user=USER_ID, run_as_group=USER_ID, run_as_non_root=True)
        if task.name == "train":
            _introduce(task, settings, kubernetes)
            _refer(task, settings, kubernetes, SINK_SECRET_KEYS, SINK_CONFIG_KEYS, optional=True)
            # A pod's disk is gone with it.
            task.set_env_variable(CHECKPOINTS_ENV, AT_HOME if settings.home_claim else IN_STORE)
            if not thin and not settings.gpus:
                # A pod has no limit of CPUs: without this it would compute with all cores of its node.
                task.set_env_variable(CPUS_ENV, settings.cpu)
        if task.name == "deploy":
            _refer(task, settings, kubernetes, (GIT_USERNAME_ENV, GIT_PASSWORD_ENV), (), optional=True)
        if task.name == "train" and not thin:
            kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit=settings.shm_size)  # noqa: S108
            if settings.home_claim:
                kubernetes.mount_pvc(task, settings.home_claim, HOME)
        if task.name == "ingest" and not settings.cache_ingest:
            task.set_caching_options(False)
        return task

    return settle


def _place(task: Any, settings: CompileSettings, light: bool, thin: bool) -> None:
    image = settings.light_image if light else settings.torch_image
    small = light or (thin and task.name == "train")
    cpu, memory = (settings.light_cpu, settings.light_memory) if small else (settings.cpu, settings.memory)
    if image:
        task.set_container_image(image)
        _, pinned, digest = image.partition("@")
        if pinned:
            # A container cannot ask for its own digest; it belongs to every model version's provenance.
            task.set_env_variable(IMAGE_DIGEST_ENV, digest)
    task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)
    one = min(settings.gpus, 1)
    gpus = {"train": 0 if thin else settings.gpus, "evaluate": one, "optimize": one}.get(task.name, 0)
    if gpus:
        task.set_accelerator_type(settings.gpu_type).set_accelerator_limit(gpus)
    if settings.retries:
        task.set_retry(settings.retries, backoff_duration="30s", backoff_factor=2.0)


def _introduce(task: Any, settings: CompileSettings, kubernetes: Any) -> None:
    """Tell train which pod it is, and what the nodes are given that it may start (fairlead.cluster.nodes)."""
    chosen = settings.model_dump(mode="json", include=NODE_SETTINGS, exclude_defaults=True)
    if chosen:
        task.set_env_variable(CLUSTER_ENV, json.dumps(chosen, sort_keys=True))
    for name, path in ((POD_ENV, "metadata.name"), (NAMESPACE_ENV, "metadata.namespace")):
        kubernetes.use_field_path_as_env(task, name, path)


def _connect(task: Any, settings: CompileSettings, kubernetes: Any) -> None:
    _refer(task, settings, kubernetes, SECRET_KEYS, CONFIG_KEYS, optional=False)
    _refer(task, settings, kubernetes, OPTIONAL_SECRET_KEYS, OPTIONAL_CONFIG_KEYS, optional=True)


def _refer(
    task: Any, settings: CompileSettings, kubernetes: Any, secret: Keys, config_map: Keys, optional: bool
) -> None:
    """Take environment variables from the Secret and the ConfigMap, by name: no value is in the package."""
    if settings.secret and secret:
        kubernetes.use_secret_as_env(task, settings.secret, {key: key for key in secret}, optional=optional)
    if settings.config_map and config_map:
        kubernetes.use_config_map_as_env(task, settings.config_map, {key: key for key in config_map}, optional=optional)
