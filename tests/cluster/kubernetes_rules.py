"""What an API server makes of an object: merged, defaulted, judged by its CRD's schema, selected."""

import functools
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from manifests.validation.schemas import LOADER, strict

Object = dict[str, Any]


@functools.cache
def parsed(path: Path) -> tuple[Object, Any]:
    """A CRD and its validator, made once: the schema of an InferenceService has 40,000 lines."""
    crd: Object = yaml.load(path.read_text("utf-8"), Loader=LOADER)
    return crd, validator(crd)


def validator(crd: Object) -> Any:
    return jsonschema.Draft202012Validator(strict(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


def merge(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def default(schema: Object, value: Any) -> None:
    """Fill in what the schema gives as default."""
    if isinstance(value, dict):
        for name, below in (schema.get("properties") or {}).items():
            if "default" in below:
                value.setdefault(name, deepcopy(below["default"]))
            if name in value:
                default(below, value[name])
    elif isinstance(value, list):
        for item in value:
            default(schema.get("items") or {}, item)


def immutable(schema: Object, old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Fields that may not change (`self == oldSelf`) and have."""
    rules = [rule.get("rule") for rule in schema.get("x-kubernetes-validations") or []]
    if "self == oldSelf" in rules and old is not None and new is not None and old != new:
        yield path
    for name, below in (schema.get("properties") or {}).items():
        if isinstance(old, dict) and isinstance(new, dict) and name in old:
            yield from immutable(below, old[name], new.get(name), f"{path}.{name}".lstrip("."))


def conflicts(owned: Any, wanted: Any, current: Any, path: str = ".spec") -> str:
    """The first field that someone else set and this one would change."""
    if isinstance(owned, dict) and isinstance(wanted, dict):
        for name in owned.keys() & wanted.keys():
            below = (current or {}).get(name) if isinstance(current, dict) else None
            if found := conflicts(owned[name], wanted[name], below, f"{path}.{name}"):
                return found
        return ""
    return path if wanted != current else ""


def selected(found: Object, selector: dict[str, str]) -> bool:
    for pair in filter(None, selector.get("labelSelector", "").split(",")):
        key, _, value = pair.partition("=")
        labels = found["metadata"].get("labels") or {}
        if key not in labels or ("=" in pair and labels[key] != value):
            return False
    for pair in filter(None, selector.get("fieldSelector", "").split(",")):
        path, _, value = pair.partition("=")
        at: Any = found
        for name in path.split("."):
            at = at.get(name) if isinstance(at, dict) else None
        if at != value:
            return False
    return True
