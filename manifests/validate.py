"""Validate manifests: `validate.py <manifests> <crds>`; see validate.sh. Exits 1 when anything is wrong.

An object is held against the openAPIV3Schema of the version it names, as an API server with strict
field validation would; the pipeline inside a PipelineVersion, which its schema leaves open, is parsed
as the messages that Kubeflow's backend reads.
"""

import functools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from fairlead.cluster.pipelines import compile_package

# libyaml's, where it is there, is ten times as fast; both are safe loaders.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
METADATA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "maxLength": 253, "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"},
        "namespace": {"type": "string", "maxLength": 63, "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "labels": {
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE},
        },
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


# Kinds that no CRD serves, as far as the manifests use them (rbac.authorization.k8s.io/v1).
_WORDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_REFERENCE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind", "name"],
    "properties": {name: {"type": "string"} for name in ("apiGroup", "kind", "name", "namespace")},
}
_RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiGroups", "resources", "verbs"],
    "properties": dict.fromkeys(("apiGroups", "resources", "resourceNames", "verbs"), _WORDS),
}


def _built_in(properties: dict[str, Any]) -> dict[str, Any]:
    known = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": METADATA, **properties}
    return {"type": "object", "additionalProperties": False, "required": list(known), "properties": known}


_ROLE = _built_in({"rules": {"type": "array", "items": _RULE}})
_BINDING = _built_in({"roleRef": _REFERENCE, "subjects": {"type": "array", "items": _REFERENCE}})
BUILT_IN = {
    ("rbac.authorization.k8s.io/v1", "Role"): _ROLE,
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): _ROLE,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): _BINDING,
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): _BINDING,
}


@functools.cache
def schema_of(crds: Path, api_version: str, kind: str) -> dict[str, Any] | None:
    """The schema of a kind, made strict; None when no CRD under `crds` serves it and it is not built in."""
    if (api_version, kind) in BUILT_IN:
        return BUILT_IN[api_version, kind]
    group, _, version_name = api_version.partition("/")
    for path in sorted(crds.rglob("*.yaml")):
        text = path.read_text("utf-8")
        # Some CRDs are megabytes of YAML: only those that can be meant are parsed.
        if f"group: {group}\n" not in text or f"kind: {kind}\n" not in text:
            continue
        for crd in yaml.load_all(text, Loader=LOADER):
            if crd and crd.get("kind") == "CustomResourceDefinition" and crd["spec"]["names"]["kind"] == kind:
                for version in crd["spec"]["versions"]:
                    if crd["spec"]["group"] == group and version["name"] == version_name and version["served"]:
                        schema = strict(version["schema"]["openAPIV3Schema"])
                        return {**schema, "properties": {**schema["properties"], "metadata": METADATA}}
    return None


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as JSON Schema that refuses fields it does not name, unless it says it keeps them."""
    result = dict(schema)
    if "properties" in schema:
        result["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = strict(schema[key])
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    if schema.get("nullable") and "type" in result:
        result["type"] = [*([result["type"]] if isinstance(result["type"], str) else result["type"]), "null"]
    return result


def read_objects(folder: Path) -> Iterator[tuple[Path, Any]]:
    """Every object that a kustomization under `folder` names, with its file."""
    for kustomization in sorted(folder.rglob("kustomization.yaml")):
        for resource in yaml.safe_load(kustomization.read_text("utf-8")).get("resources", []):
            path = kustomization.parent / resource
            if path.is_file():
                for found in yaml.safe_load_all(path.read_text("utf-8")):
                    yield path, found
            elif not (path / "kustomization.yaml").is_file():
                raise FileNotFoundError(f"{kustomization}: it names {resource}, which is not there")


def faults(found: Any, crds: Path) -> Iterator[str]:
    """What is wrong with an object."""
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        yield "it is not an object of Kubernetes"
        return
    schema = schema_of(crds, str(found.get("apiVersion")), found["kind"])
    if schema is None:
        yield f"no CRD serves {found.get('apiVersion')} {found['kind']}"
        return
    for error in jsonschema.Draft202012Validator(schema).iter_errors(found):
        yield f"{error.json_path}: {error.message[:300]}"
    if found["kind"] == "PipelineVersion":
        yield from pipeline_faults(found.get("spec") or {})


def pipeline_faults(spec: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the pipeline inside a PipelineVersion."""
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


def main(manifests: Path, crds: Path) -> int:
    """Print a line an object and a tally; 1 when anything is wrong."""
    stale = not is_up_to_date(manifests / "pipelines" / "training.yaml")
    if stale:
        print("STALE    pipelines/training.yaml: it differs from what compiles now; run make manifests")
    if not crds.is_dir():
        print(f"SKIPPED  the CRD schemas are not at {crds}; set FAIRLEAD_CRDS to validate the objects")
        return int(stale)
    tally = {"valid": 0, "INVALID": 0}
    try:
        for path, found in read_objects(manifests):
            wrong = list(faults(found, crds))
            verdict = "INVALID" if wrong else "valid"
            tally[verdict] += 1
            print(f"{verdict:8} {path.relative_to(manifests)}: {describe(found)}")
            print("".join(f"           {' '.join(line.split())}\n" for line in wrong), end="")
    except (yaml.YAMLError, OSError) as error:
        print(f"UNREADABLE {' '.join(str(error).split())}")
        return 1
    print(f"{sum(tally.values())} objects: {tally['valid']} valid, {tally['INVALID']} invalid")
    return int(stale or tally["INVALID"] > 0 or tally["valid"] == 0)


def describe(found: Any) -> str:
    """The object's kind and name, as far as it has them."""
    if not isinstance(found, dict):
        return repr(found)[:60]
    metadata = found.get("metadata")
    return f"{found.get('kind')}/{metadata.get('name') if isinstance(metadata, dict) else None}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
