"""Which TrainJob the cluster takes: the schema that its API server serves, and whether an object fits it.

Kubeflow Trainer has changed the resource under one name: patches of the pods were `podSpecOverrides`
(v2.0), `podTemplateOverrides` (v2.1) and are `runtimePatches` (v2.2 on). What is asked for is
therefore made for the schema found, and refused in a sentence when that has no place for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fairlead.cluster.api_server import ApiServer, Object
from fairlead.errors import ConfigError, NotFound

GROUP, PLURAL, KIND = "trainer.kubeflow.org", "trainjobs", "TrainJob"
# The one this was written against; another one is taken when it has the fields.
KNOWN_VERSION = "v1alpha1"


@dataclass(frozen=True)
class Served:
    """A served version of TrainJob."""

    version: str
    schema: Object

    @property
    def api_version(self) -> str:
        """`trainer.kubeflow.org/v1alpha1`."""
        return f"{GROUP}/{self.version}"

    def at(self, path: str) -> Object | None:
        """The schema of a field, `spec.runtimePatches[].manager`; None when there is no such field."""
        schema: Object | None = self.schema
        for name in path.replace("[]", ".[]").split("."):
            schema = _below(schema or {}, name)
        return schema

    def takes(self, path: str) -> bool:
        """Whether a field is known."""
        return self.at(path) is not None

    def check(self, found: Object) -> None:
        """Raise ConfigError when the cluster does not know a field of the object, or wants another type there."""
        for fault in faults(self.schema, found, ""):
            raise ConfigError(
                f"TrainJob: the cluster's {self.api_version} has no place for {fault}; "
                "install Kubeflow Trainer v2.0 or later, or leave out the setting"
            )


def read_served(api: ApiServer) -> Served:
    """The schema that the cluster serves, from its CRD or, where that may not be read, from its OpenAPI document.

    Raises ConfigError when Kubeflow Trainer is not installed.
    """
    try:
        found = _from_crd(api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"))
    except NotFound as error:
        raise _not_installed() from error
    except ConfigError:
        # CRDs belong to the whole cluster; the OpenAPI document is open to every account.
        found = _from_openapi(api)
    if not found:
        raise _not_installed()
    return found.get(KNOWN_VERSION) or found[max(found)]


def _not_installed() -> ConfigError:
    return ConfigError(
        "training.nodes: more than 1 needs Kubeflow Trainer, and the cluster serves no TrainJob; "
        "install it (v2.3 is known to fit), or set training.nodes to 1"
    )


def _from_crd(crd: Object) -> dict[str, Served]:
    versions = {v["name"]: v for v in crd["spec"]["versions"] if v.get("served")}
    return {name: Served(name, v["schema"]["openAPIV3Schema"]) for name, v in versions.items()}


def _from_openapi(api: ApiServer) -> dict[str, Served]:
    paths = api.get("/openapi/v3").get("paths", {})
    versions = [path.rpartition("/")[2] for path in paths if path.startswith(f"apis/{GROUP}/")]
    found = {}
    for version in versions:
        schemas = api.get(f"/openapi/v3/apis/{GROUP}/{version}")["components"]["schemas"]
        for schema in schemas.values():
            if any(k["kind"] == KIND for k in schema.get("x-kubernetes-group-version-kind", [])):
                found[version] = Served(version, schema)
    return found


def _below(schema: Object, name: str) -> Object | None:
    if name == "[]":
        below = schema.get("items")
    else:
        below = (schema.get("properties") or {}).get(name)
        if below is None and isinstance(schema.get("additionalProperties"), dict):
            below = schema["additionalProperties"]
    if below is None and schema.get("x-kubernetes-preserve-unknown-fields"):
        return schema
    return below if isinstance(below, dict) else None


def faults(schema: Object, value: Any, where: str) -> Iterator[str]:
    """What an API server that refuses unknown fields would refuse by the structure alone; `metadata` is its own."""
    if isinstance(value, dict):
        for name, below in value.items():
            inner = _below(schema, name)
            path = f"{where}.{name}".lstrip(".")
            if path in ("metadata", "apiVersion", "kind"):
                continue
            if inner is None:
                yield path
            else:
                yield from faults(inner, below, path)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from faults(schema.get("items") or {}, below, f"{where}[{index}]")
    elif not _fits(schema, value):
        yield f"{where}: {value!r}, which is to be {schema.get('type')}"


def _fits(schema: Object, value: Any) -> bool:
    kinds = {"string": str, "integer": int, "boolean": bool, "number": (int, float)}
    expected = kinds.get(str(schema.get("type")))
    if expected is None or schema.get("x-kubernetes-int-or-string"):
        return schema.get("type") not in ("object", "array")
    return isinstance(value, expected) and (not isinstance(value, bool) or expected is bool)  # type: ignore[arg-type]
