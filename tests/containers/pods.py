"""From what manifests say of a container to a container that runs here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.containers.isolation import Container, Image, empty_folder
from tests.containers.network import ROOT

BASE = ROOT / "manifests" / "base"
UNITS = {"Mi": 2**20, "Gi": 2**30}


def manifest(path: str, kind: str) -> dict[str, Any]:
    """The object of that kind in a file below manifests/base."""
    documents = yaml.safe_load_all((BASE / path).read_text("utf-8"))
    return next(document for document in documents if document["kind"] == kind)


def from_pod(
    image: Image, spec: Mapping[str, Any], user: int, values: Mapping[str, str], folder: Path, **granted: Any
) -> Container:
    """A container of a pod: its volumes are empty folders in `folder`, `values` what Secrets and ConfigMaps hold.

    `granted` is what is beside the manifest: the network, and volumes that others have filled.
    """
    return Container(
        image,
        _command(image, spec),
        user,
        env={variable["name"]: value for variable in spec.get("env", []) if (value := _value(variable, values))},
        writable={v["mountPath"]: empty_folder(folder / v["name"]) for v in spec.get("volumeMounts", [])},
        memory_bytes=num_bytes(spec["resources"]["limits"]["memory"]),
        **granted,
    )


def _command(image: Image, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """`command` is in place of the image's entry point, `args` in place of its arguments."""
    entry = spec.get("command") or image.config.get("Entrypoint") or []
    return (*entry, *spec.get("args", []))


def _value(variable: Mapping[str, Any], values: Mapping[str, str]) -> str | None:
    if "value" in variable:
        return str(variable["value"])
    (reference,) = variable["valueFrom"].values()
    return values.get(reference["key"])


def num_bytes(quantity: str) -> int:
    """Of a quantity such as 512Mi."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]]
