"""The pipeline inside a PipelineVersion, which its schema leaves open: parsed as what Kubeflow's backend reads."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from fairlead.cluster.pipelines import compile_package


def faults(found: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the pipeline of a PipelineVersion."""
    if found.get("kind") != "PipelineVersion":
        return
    spec = found.get("spec") or {}
    try:
        json_format.ParseDict(spec.get("pipelineSpec", {}), PipelineSpec())
    except json_format.ParseError as error:
        yield f"$.spec.pipelineSpec: {error}"
    executors = spec.get("pipelineSpec", {}).get("deploymentSpec", {}).get("executors", {})
    for name, config in _platform_executors(spec.get("platformSpec", {})).items():
        if name not in executors:
            yield f"$.spec.platformSpec: there is no executor {name!r}"
        try:
            json_format.ParseDict(config, KubernetesExecutorConfig())
        except json_format.ParseError as error:
            yield f"$.spec.platformSpec, {name}: {error}"


def _platform_executors(platform: dict[str, Any]) -> dict[str, Any]:
    executors: dict[str, Any] = (
        platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    )
    return executors


def is_up_to_date(committed: Path) -> bool:
    """Whether compiling now gives the committed bytes."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / committed.name
        compile_package(fresh, kubernetes_native=True)
        return committed.is_file() and committed.read_bytes() == fresh.read_bytes()
