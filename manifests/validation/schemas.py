"""An object held against the schema of the version that it names, as an API server with strict field validation would.

Kinds of Kubernetes come from the `kubernetes-validate` package; all others from CRDs in a folder; of the few whose CRDs
are not there the fields that the manifests use are written down here.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

# The newest release that the manifests are meant for; the lowest is in manifests/README.md.
KUBERNETES = "1.36"
# libyaml's, where it is there, is ten times as fast; both are safe loaders.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Kinds of Kubernetes that stand in no namespace, as far as the manifests use them.
CLUSTER_WIDE = {"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding", "StorageClass"}
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
        "finalizers": {"type": "array", "items": {"type": "string"}},
    },
}


def faults(found: Any, crds: Path) -> Iterator[str]:
    """What is wrong with an object, as far as its schema says."""
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        yield "it is not an object of Kubernetes"
        return
    api_version, kind = str(found.get("apiVersion")), found["kind"]
    if is_built_in(api_version):
        yield from _built_in_faults(found)
        schema: dict[str, Any] | None = {"type": "object", "properties": {"metadata": METADATA}}
    else:
        schema = WRITTEN_DOWN.get((api_version, kind)) or schema_of(crds, api_version, kind)
    if schema is None:
        yield f"no CRD serves {api_version} {kind}"
        return
    for error in jsonschema.Draft202012Validator(schema).iter_errors(found):
        yield f"{error.json_path}: {error.message[:300]}"


def is_built_in(api_version: str) -> bool:
    """Whether the group is Kubernetes' own: without a dot, or under k8s.io by itself."""
    group = api_version.rpartition("/")[0]
    return "." not in group or group in {
        "rbac.authorization.k8s.io",
        "networking.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
        "policy",
    }


def _built_in_faults(found: dict[str, Any]) -> Iterator[str]:
    try:
        kubernetes_validate.validate(found, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        yield f"${path}: {error.message[:300]}"
    except kubernetes_validate.SchemaNotFoundError:
        yield f"Kubernetes {KUBERNETES} serves no {found.get('apiVersion')} {found['kind']}"


def schema_of(crds: Path, api_version: str, kind: str) -> dict[str, Any] | None:
    """The schema of a kind, made strict; None when no CRD under `crds` serves it."""
    served = _served(crds, api_version, kind)
    return served[0] if served else None


def is_cluster_wide(crds: Path, api_version: str, kind: str) -> bool:
    """Whether objects of a kind stand in no namespace."""
    served = _served(crds, api_version, kind)
    return served[1] == "Cluster" if served else kind in CLUSTER_WIDE


@functools.cache
def _served(crds: Path, api_version: str, kind: str) -> tuple[dict[str, Any], str] | None:
    """Schema and scope of a kind."""
    group, _, version_name = api_version.partition("/")
    if is_built_in(api_version):
        return None
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
                        whole = {**schema, "properties": {**schema["properties"], "metadata": METADATA}}
                        return whole, crd["spec"]["scope"]
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


def _fields(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _whole(spec: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string"}
    return _fields(["apiVersion", "kind", "metadata", "spec"], apiVersion=text, kind=text, metadata=METADATA, spec=spec)


_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_NAMED = _fields(["name"], name=_TEXT)
# Flux's kustomize and source controllers, v1; External Secrets, v1: their published API references.
WRITTEN_DOWN: dict[tuple[str, str], dict[str, Any]] = {
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"): _whole(
        _fields(
            ["interval", "path", "prune", "sourceRef"],
            interval=_TEXT,
            retryInterval=_TEXT,
            timeout=_TEXT,
            path=_TEXT,
            prune={"type": "boolean"},
            wait={"type": "boolean"},
            sourceRef=_fields(["kind", "name"], kind={"enum": ["GitRepository"]}, name=_TEXT),
            dependsOn={"type": "array", "items": _NAMED},
        )
    ),
    ("source.toolkit.fluxcd.io/v1", "GitRepository"): _whole(
        _fields(["interval", "url", "ref"], interval=_TEXT, url=_TEXT, ref=_fields(["branch"], branch=_TEXT))
    ),
    ("external-secrets.io/v1", "ExternalSecret"): _whole(
        _fields(
            ["refreshInterval", "secretStoreRef", "target"],
            refreshInterval=_TEXT,
            secretStoreRef=_fields(["kind", "name"], kind={"enum": ["SecretStore", "ClusterSecretStore"]}, name=_TEXT),
            target=_fields(
                ["name"],
                name=_TEXT,
                creationPolicy={"enum": ["Owner"]},
                template={"type": "object"},
            ),
            data={
                "type": "array",
                "items": _fields(
                    ["secretKey", "remoteRef"],
                    secretKey=_TEXT,
                    remoteRef=_fields(["key"], key=_TEXT, property=_TEXT),
                ),
            },
        )
    ),
}
