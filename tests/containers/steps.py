"""The steps of the compiled pipeline, each in its container, with KFP's artifacts in folders between them."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.containers.in_cluster import Kubernetes
from tests.containers.isolation import Container, Image, empty_folder, run
from tests.containers.network import Network
from tests.containers.pods import manifest, num_bytes

# KFP's launcher puts `s3://artifacts/...` at /s3/artifacts/...
BUCKET = "artifacts"
HOME = "/var/lib/fairlead"
TOLD = "/tmp/outputs.json"
# These work on what KFP hands them alone. The others read or write the registry or the store.
ALONE = frozenset({"tokenize", "optimize"})


@dataclass
class Pipeline:
    """The pipeline of manifests/base/pipelines, as it runs on `arguments`."""

    images: Mapping[str, Image]
    arguments: Mapping[str, Any]
    values: Mapping[str, str]
    """What the Secret and the ConfigMap of the pipelines hold."""
    network: Network
    sockets: Mapping[str, Path]
    """Folders with the sockets of servers that steps with a network may reach."""
    folder: Path
    kubernetes: Kubernetes | None = None
    """What deploy works with; the others have no need of it."""
    done: dict[str, "subprocess.CompletedProcess[str]"] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def spec(self) -> dict[str, Any]:
        return dict(manifest("pipelines/training.yaml", "PipelineVersion")["spec"])

    @property
    def tasks(self) -> dict[str, Any]:
        """The tasks by name; what is behind a condition is as if it stood before it."""
        found: dict[str, Any] = {}
        for name, task in self.spec["pipelineSpec"]["root"]["dag"]["tasks"].items():
            inner = self.spec["pipelineSpec"]["components"][task["componentRef"]["name"]].get("dag")
            found |= {n: _lifted(t, task) for n, t in inner["tasks"].items()} if inner else {name: task}
        return found

    def run(self, stage: str) -> "subprocess.CompletedProcess[str]":
        """Run a stage, after those that it depends on; each once."""
        for before in self.tasks[stage].get("dependentTasks", []):
            assert self.run(before).returncode == 0, self.done[before].stdout
        if stage not in self.done:
            empty_folder(self.folder / stage)
            self.done[stage] = run(self.container(stage), self.folder)
            self._keep_metadata(stage)
        return self.done[stage]

    def container(self, stage: str) -> Container:
        """What the manifest says of a stage, with its inputs to be read and its outputs to be written."""
        package = self.spec["pipelineSpec"]["deploymentSpec"]["executors"][f"exec-{stage}"]["container"]
        platform = self.spec["platformSpec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{stage}"]
        told = json.dumps(self._executor_input(stage))
        kubernetes = self.kubernetes if stage == "deploy" else None
        return Container(
            self.images[package["image"]],
            (*package["command"], *(told if argument == "{{$}}" else argument for argument in package["args"])),
            user=int(platform["securityContext"]["runAsUser"]),
            env={**self._environment(package, platform), **(kubernetes.env if kubernetes else {})},
            writable=self._writable(stage, platform),
            readable={self.place(task): self.folder / task for task, _ in self._inputs(stage).values()}
            | ({} if stage in ALONE else dict(self.sockets))
            | (dict(kubernetes.readable) if kubernetes else {}),
            network=None if stage in ALONE else self.network.path,
            memory_bytes=num_bytes(package["resources"]["resourceMemoryLimit"]),
        )

    def _writable(self, stage: str, platform: Mapping[str, Any]) -> dict[str, Path]:
        mounts = [*(mount["mountPath"] for mount in platform.get("emptyDirMounts", [])), "/tmp", HOME]
        own = {
            path: empty_folder(self.folder / f"{stage}-volumes" / path.strip("/").replace("/", "-")) for path in mounts
        }
        return own | {self.place(stage): self.folder / stage}

    def _environment(self, package: Mapping[str, Any], platform: Mapping[str, Any]) -> dict[str, str]:
        references = [*platform.get("configMapAsEnv", []), *platform.get("secretAsEnv", [])]
        named = {key["envVar"] for reference in references for key in reference["keyToEnv"]}
        plain = {variable["name"]: variable["value"] for variable in package.get("env", [])}
        return plain | {name: value for name, value in self.values.items() if name in named}

    def _executor_input(self, stage: str) -> dict[str, Any]:
        """What KFP's launcher tells a step: message ExecutorInput of kfp's pipeline_spec.proto."""
        outputs = self._component(stage)["outputDefinitions"]["artifacts"]
        inputs = {name: self._artifact(*source) for name, source in self._inputs(stage).items()}
        return {
            "inputs": {"parameterValues": self._parameters(stage), "artifacts": inputs},
            "outputs": {"artifacts": {key: self._artifact(stage, key) for key in outputs}, "outputFile": TOLD},
        }

    def _parameters(self, stage: str) -> dict[str, Any]:
        parameters = self.tasks[stage]["inputs"].get("parameters", {})
        return {name: self.arguments[source["componentInputParameter"]] for name, source in parameters.items()}

    def _inputs(self, stage: str) -> dict[str, tuple[str, str]]:
        """The task and the output that each input comes from."""
        sources = {n: s["taskOutputArtifact"] for n, s in self.tasks[stage]["inputs"].get("artifacts", {}).items()}
        return {name: (source["producerTask"], source["outputArtifactKey"]) for name, source in sources.items()}

    def _artifact(self, stage: str, key: str) -> dict[str, Any]:
        kind = self._component(stage)["outputDefinitions"]["artifacts"][key]["artifactType"]
        told = {"metadata": self.metadata.get(f"{stage}/{key}", {})}
        return {"artifacts": [{"name": key, "type": kind, "uri": f"s3://{BUCKET}/{stage}/{key}", **told}]}

    def _component(self, stage: str) -> dict[str, Any]:
        return dict(self.spec["pipelineSpec"]["components"][self.tasks[stage]["componentRef"]["name"]])

    def place(self, stage: str) -> str:
        """Where a stage finds what another left."""
        return f"/s3/{BUCKET}/{stage}"

    def _keep_metadata(self, stage: str) -> None:
        told = self.folder / f"{stage}-volumes" / "tmp" / Path(TOLD).name
        artifacts = json.loads(told.read_text())["artifacts"] if told.exists() else {}
        for key, listed in artifacts.items():
            self.metadata[f"{stage}/{key}"] = listed["artifacts"][0].get("metadata", {})


def _lifted(task: dict[str, Any], condition: dict[str, Any]) -> dict[str, Any]:
    """A task behind a condition, with inputs where the condition has them from."""
    outer = {kind: condition["inputs"].get(kind, {}) for kind in ("artifacts", "parameters")}
    keys = {"artifacts": "componentInputArtifact", "parameters": "componentInputParameter"}
    inputs = {
        kind: {name: outer[kind][source[keys[kind]]] for name, source in task["inputs"].get(kind, {}).items()}
        for kind in outer
    }
    return {**task, "inputs": inputs, "dependentTasks": condition.get("dependentTasks", [])}
