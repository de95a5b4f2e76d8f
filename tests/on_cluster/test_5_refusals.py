"""What the cluster would refuse of our manifests: what Kubeflow reads, and every overlay by dry run."""

import json
from typing import Any

import pytest

from fairlead.errors import FairleadError
from manifests.validation import building
from tests.on_cluster.conftest import Note
from tests.on_cluster.examining import Found
from tests.on_cluster.objects import Objects, Unserved
from tests.on_cluster.platforms import MANIFESTS
from tests.on_cluster.space import Run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


def test_the_pipeline_is_taken_by_kubeflow_pipelines(objects: Objects, found: Found, run: Run, note: Note) -> None:
    if not found.optional["Kubeflow Pipelines"]:
        pytest.skip("Kubeflow Pipelines with pipelines in Kubernetes (2.14 or later) is not there")
    for one in building.kustomize(MANIFESTS / "base" / "pipelines"):
        one["metadata"]["namespace"] = run.namespace
        assert objects.apply(one)["metadata"]["uid"]
        note(f"{one['kind']} {one['metadata']['name']}")


def test_the_nodes_runtime_is_taken_by_kubeflow_trainer(objects: Objects, found: Found, run: Run) -> None:
    if not found.optional["Kubeflow Trainer"]:
        pytest.skip("Kubeflow Trainer is not there")
    (runtime,) = building.kustomize(MANIFESTS / "base" / "trainer")
    # The same without a trace outside the namespace.
    runtime["kind"] = "TrainingRuntime"
    runtime["metadata"]["namespace"] = run.namespace
    objects.apply(runtime)
    container = {"image": "fairlead-torch", "command": ["python", "-m", "torch.distributed.run", "--help"]}
    spec = {"runtimeRef": {"kind": "TrainingRuntime", "name": _name(runtime)}, "trainer": {"numNodes": 2, **container}}
    metadata = {"name": "dry-run", "namespace": run.namespace}
    job = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": metadata, "spec": spec}
    taken = objects.apply(job, dry_run=True)
    assert taken["spec"]["runtimeRef"].items() >= spec["runtimeRef"].items()


def test_every_overlay_and_combination_is_taken_by_the_api_server(objects: Objects, run: Run, note: Note) -> None:
    refused, unserved, taken = [], set(), set()
    for build in building.builds(MANIFESTS):
        if not build.name.startswith(("overlays/", "base/monitoring", "base/retraining")):
            continue
        for one in build.objects():
            _as_a_dry_run(one, run)
            key = json.dumps(one, sort_keys=True)
            if key in taken or one["kind"] in ("Pipeline", "PipelineVersion", "Namespace"):
                continue
            taken.add(key)
            try:
                objects.apply(one, dry_run=True)
            except Unserved as absent:
                unserved.add(str(absent))
            except FairleadError as error:
                refused.append(f"{build.name}: {one['kind']} {_name(one)}: {error}")
    for absent in sorted(unserved):
        note(f"not asked: {absent}")
    note(f"{len(taken)} different objects by dry run")
    assert refused == []


def _as_a_dry_run(found: Any, run: Run) -> None:
    """Under a name of its own: what is there already may not be changed everywhere."""
    # Of two runtimes for the same format and with the same priority KServe refuses the second.
    if found["kind"] != "ClusterServingRuntime":
        found["metadata"]["name"] = f"dry-run-{run.id}-{found['metadata']['name']}"[:63].rstrip("-")
    if "namespace" in found["metadata"]:
        found["metadata"]["namespace"] = run.namespace


def _name(found: Any) -> str:
    return str(found["metadata"]["name"])
