"""The door to Kubeflow Pipelines: run a pipeline with `kfp.local`, compile it, submit it to a server."""

import contextlib
import importlib
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import kfp_server_api
import yaml
from kfp import Client, compiler, components, local
from kfp.client import ServiceAccountTokenVolumeCredentials
from kfp.dsl.base_component import BaseComponent
from urllib3.exceptions import HTTPError

from fairlead.cluster.arguments import input_digests, pinned, pipeline_arguments, refuse_local
from fairlead.cluster.config import CompileSettings
from fairlead.cluster.local import LocalRun, StageRun, run_local
from fairlead.cluster.processes import die_with_parent
from fairlead.cluster.remote import TOKEN_ENV, TOKEN_PATH_ENV, RemoteRun, RunLook, TaskLook, follow, refusal
from fairlead.cluster.settling import settler
from fairlead.cluster.stagelog import StageLog
from fairlead.errors import ClusterError, ConfigError, StorageError
from fairlead.formats.atomic import write_bytes
from fairlead.formats.digests import of_bytes, short
from fairlead.project import ProjectConfig
from fairlead.stage import disk_sentence
from fairlead.storage.redaction import RedactingStream, redact

__all__ = ["CompileSettings", "LocalRun", "RemoteRun", "StageRun", "compile_package", "run_local", "submit"]

HOST_ENVS = ("KF_PIPELINES_ENDPOINT", "KFP_ENDPOINT")
GENERATED = "# Compiled by `fairlead compile`; change pipelines/ or components/ and compile again.\n"


# Compile ---------------------------------------------------------------------------------------------------


def compile_package(
    path: Path,
    settings: CompileSettings | None = None,
    kubernetes_native: bool = False,
    config: ProjectConfig | None = None,
) -> None:
    """Write the training pipeline as a KFP package or as Kubernetes-native manifests, the same bytes every time.

    With `config`, its settings become the defaults of the pipeline's parameters.
    """
    settings = settings or CompileSettings()
    pipeline = _settled(settings, config.training.nodes if config else 1)
    defaults = pipeline_arguments(config) if config else None
    text = _compiled(pipeline, pipeline_parameters=defaults)
    if kubernetes_native:
        text = _compiled(
            pipeline,
            pipeline_parameters=defaults,
            kubernetes_manifest_options=_names(settings.namespace, digest=of_bytes(text.encode())),
            kubernetes_manifest_format=True,
        )
    try:
        write_bytes(path, (GENERATED + text).encode())
    except OSError as error:
        raise StorageError(disk_sentence("compile", error)) from error


def _names(namespace: str | None, digest: str) -> compiler.KubernetesManifestOptions:
    """Names of `Pipeline` and `PipelineVersion`; a version cannot be changed once applied, so its content names it."""
    from pipelines.training import NAME

    return compiler.KubernetesManifestOptions(
        pipeline_name=NAME,
        pipeline_version_name=f"{NAME}-{short(digest)}",
        namespace=namespace,
        include_pipeline_manifest=True,
    )


def _settled(settings: CompileSettings, nodes: int) -> BaseComponent:
    try:
        from kfp import kubernetes
    except ImportError as error:
        raise ConfigError("compile: kfp-kubernetes is not installed; pip install 'fairlead[cluster]'") from error
    from pipelines.training import training_pipeline

    return training_pipeline(settler(settings, kubernetes, nodes))


def _compiled(pipeline: BaseComponent, **options: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "package.yaml"
        compiler.Compiler().compile(pipeline, str(path), **options)
        return path.read_text("utf-8")


# Run here --------------------------------------------------------------------------------------------------


def local_package(pipeline: str, until: str | None = None) -> dict[str, Any]:
    """The compiled package of `module:name`, with only the tasks that `until` needs."""
    module, _, name = pipeline.partition(":")
    package: dict[str, Any] = yaml.safe_load(_compiled(getattr(importlib.import_module(module), name)))
    tasks = package["root"]["dag"]["tasks"]
    wanted = {_task_with(package, until)} if until else set(tasks)
    while more := {name for task in wanted for name in tasks[task].get("dependentTasks", [])} - wanted:
        wanted |= more
    package["root"]["dag"]["tasks"] = {name: tasks[name] for name in tasks if name in wanted}
    return package


def _task_with(package: dict[str, Any], stage: str) -> str:
    """The task of a stage, or the condition that it stands behind."""
    tasks = package["root"]["dag"]["tasks"]
    inside = {name: package["components"][task["componentRef"]["name"]].get("dag", {}) for name, task in tasks.items()}
    found: Iterator[str] = (name for name, dag in inside.items() if name == stage or stage in dag.get("tasks", {}))
    return next(found)


def execute(request: dict[str, Any]) -> None:
    """In the child process: run the requested pipeline with kfp.local, and emit an event as each stage goes by.

    kfp raises RuntimeError when a task fails.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    # kfp.local exchanges the root logger's handlers while a task runs, but leaves its filters.
    logging.getLogger().addFilter(StageLog(Path(request["cache_root"])).read)
    run = components.load_component_from_text(yaml.safe_dump(local_package(request["pipeline"], request["until"])))
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=request["pipeline_root"],
        cache_root=request["cache_root"],
        enable_caching=True,
    )
    run(**request["arguments"])


def main(request: str) -> int:
    """Run the request in a file; 0 when every task succeeded."""
    die_with_parent()
    if (Path(sys.executable).parent / "python3").exists():
        sys.executable = "python3"
    wanted = json.loads(Path(request).read_text("utf-8"))
    # Its addresses may hold credentials, and kfp prints the arguments of each task.
    Path(request).unlink()
    sys.stdout, sys.stderr = (RedactingStream(stream.buffer, wanted) for stream in (sys.stdout, sys.stderr))
    try:
        execute(wanted)
    except RuntimeError as error:
        print(f"error: {error}", flush=True)
        return 1
    return 0


# Submit ----------------------------------------------------------------------------------------------------


def submit(
    config: ProjectConfig,
    host: str | None = None,
    namespace: str | None = None,
    experiment: str | None = None,
    settings: CompileSettings | None = None,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
    poll_seconds: float = 2.0,
) -> RemoteRun:
    """Run the training pipeline on a Kubeflow Pipelines server and follow it to its end.

    `host` defaults to KF_PIPELINES_ENDPOINT, then to the cluster this runs in or the kubeconfig names.
    Raises ConfigError for data on this machine, ClusterError when the server or the run fails.
    """
    refuse_local(config)
    host = host or next((os.environ[name] for name in HOST_ENVS if os.environ.get(name)), None)
    settings = (settings or CompileSettings()).model_copy(update={"cache_ingest": True})
    config = pinned(config)
    arguments = pipeline_arguments(config, *input_digests(config))
    with tempfile.TemporaryDirectory() as folder, _translated(host):
        package = Path(folder) / "package.yaml"
        compile_package(package, settings)
        client = _client(host, namespace)
        run_id = client.create_run_from_pipeline_package(
            str(package),
            arguments=arguments,
            run_name=config.project,
            experiment_name=experiment or config.project,
            namespace=namespace,
        ).run_id
    address = f"{redact(host) if host else ''}/#/runs/details/{run_id}"
    on_event({"event": "submitted", "stage": "run", "run_id": run_id, "address": address})
    return follow(run_id, address, lambda: _look(client, run_id, host), on_event, poll_seconds)


def _client(host: str | None, namespace: str | None) -> Client:
    if host:
        # kfp asks five times, 5 s apart, and logs a traceback each time, before it gives up.
        httpx.get(f"{host.rstrip('/')}/apis/v2beta1/healthz", timeout=10)
    credentials = ServiceAccountTokenVolumeCredentials() if os.environ.get(TOKEN_PATH_ENV) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Client(
            host=host,
            existing_token=os.environ.get(TOKEN_ENV),
            credentials=credentials,
            **({"namespace": namespace} if namespace else {}),
        )


def _look(client: Client, run_id: str, host: str | None) -> RunLook:
    with _translated(host):
        run = client.get_run(run_id)
    details = run.run_details.task_details if run.run_details else None
    return RunLook(
        state=run.state or "PENDING",
        error=run.error.message if run.error else None,
        tasks=[_task(detail) for detail in details or []],
    )


def _task(detail: Any) -> TaskLook:
    ended = detail.end_time and detail.start_time and detail.end_time > detail.start_time
    return TaskLook(
        name=detail.display_name or "",
        state=detail.state or "PENDING",
        seconds=(detail.end_time - detail.start_time).total_seconds() if ended else None,
        error=detail.error.message if detail.error else None,
    )


@contextlib.contextmanager
def _translated(host: str | None) -> Iterator[None]:
    """Turn what the client raises into one sentence; what it prints (links) is not for our output."""
    where = redact(host) if host else "Kubeflow Pipelines"
    try:
        with contextlib.redirect_stdout(None):
            yield
    except kfp_server_api.ApiException as error:
        raise ClusterError(refusal(where, error.status, error.body, error.reason)) from error
    except (httpx.HTTPError, HTTPError, TimeoutError, OSError) as error:
        raise ClusterError(
            f"{where}: no Kubeflow Pipelines API answers there ({type(error).__name__}); "
            "check the address (--host or KF_PIPELINES_ENDPOINT) and that the server is up"
        ) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
