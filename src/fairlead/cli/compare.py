"""What differs between two model versions: data, config, evaluation and gate, code, environment and metrics."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairlead.cli.output import cell, heading, print_pairs, print_table, show
from fairlead.errors import NotFound
from fairlead.formats.digests import PREFIX, short

if TYPE_CHECKING:
    from fairlead.formats.model import ModelManifest
    from fairlead.registry import Registry, VersionRecord

SECTIONS = ("data", "parent", "config", "evaluation", "code", "environment")


def compare_versions(registry: "Registry", a: "VersionRecord", b: "VersionRecord") -> dict[str, Any]:
    """Differences by section, each `{name: [value in a, value in b]}`, and every metric of both."""
    of_a, of_b = a.manifest.training, b.manifest.training
    return {
        "a": a.name,
        "b": b.name,
        "data": _differences(_data_facts(registry, a), _data_facts(registry, b)),
        "config": _differences(flatten(of_a.config), flatten(of_b.config)),
        "evaluation": _differences(flatten(a.manifest.evaluation_config), flatten(b.manifest.evaluation_config)),
        "parent": _differences(_parent(a.manifest), _parent(b.manifest)),
        "code": _differences(of_a.code.to_dict(), of_b.code.to_dict()),
        "environment": _differences(of_a.environment.to_dict(), of_b.environment.to_dict()),
        "same_test_rows": _test_digest(a.manifest) == _test_digest(b.manifest),
        "metrics": {
            name: [a.metrics.get(name), b.metrics.get(name)] for name in sorted(a.metrics.keys() | b.metrics.keys())
        },
    }


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """Print the differences as one table a section; sections without one are named in a line."""
    a, b = comparison["a"], comparison["b"]
    if a == b:
        a, b = f"{a} (a)", f"{b} (b)"
    same = [section for section in SECTIONS if not comparison[section]]
    if same:
        print_pairs({"same": ", ".join(same)})
    for section in SECTIONS:
        if comparison[section]:
            heading(section)
            rows = comparison[section].items()
            print_table([{"": name, a: _brief(x), b: _brief(y)} for name, (x, y) in rows], "")
    heading("metrics on the test split")
    print_table([_metric_row(name, a, x, b, y) for name, (x, y) in comparison["metrics"].items()], "none")
    if not comparison["same_test_rows"]:
        show("", "The test rows differ, so the metrics do not measure the same thing.")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name; an empty section is a value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = list(dict.fromkeys((*a, *b)))
    return {name: [a.get(name), b.get(name)] for name in names if a.get(name) != b.get(name)}


def _data_facts(registry: "Registry", version: "VersionRecord") -> dict[str, Any]:
    facts: dict[str, Any] = {"digest": version.data_digest, "labels": version.manifest.labels}
    try:
        manifest = registry.get_data_version(version.data_digest).manifest
    except NotFound:
        return facts
    for name, split in manifest["splits"].items():
        facts |= {f"{name} rows": split["num_rows"], f"{name} digest": split["digest"]}
    return facts | {f"source of {name}": source for name, source in manifest["sources"].items()}


def _parent(manifest: "ModelManifest") -> dict[str, Any]:
    return {"version": manifest.training.parent_version, "digest": manifest.training.parent}


def _test_digest(manifest: "ModelManifest") -> str | None:
    return next((e.get("dataset_digest") for e in manifest.evaluations if e.get("dataset") == "test"), None)


def _brief(value: Any) -> str:
    if isinstance(value, str) and value.startswith(PREFIX):
        return short(value)
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)}: {cell(value[:6])}, ..."
    return repr(value) if isinstance(value, float) else cell(value)


def _metric_row(name: str, a: str, x: float | None, b: str, y: float | None) -> dict[str, Any]:
    change = None if x is None or y is None else f"{y - x:+.4f}"
    return {"": name, a: x, b: y, "change": change}
