"""The settings of a run that continues a version: the version's own, under what the user gives."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairlead.errors import ConfigError
from fairlead.names import LANGUAGE_MODELING, VERSION_SCHEME

if TYPE_CHECKING:
    from fairlead.registry import VersionRecord

# What says where the parent's data lay and how its files looked. What carried its run out is not taken either.
NOT_TAKEN = {
    "data": {"source", "validation", "test", "extra", "format", "header", "quoting", "encoding"},
    "model": {"base", "pooling"},
}


def under_parent(values: dict[str, Any], continue_from: str | None = None) -> dict[str, Any]:
    """`values`, with what they leave open taken from the version that is continued; as they are without one.

    `continue_from` stands above `incremental.parent`. A language model becomes the base, since it has no labelled test
    rows to be held to. Raises NotFound for an unknown version.
    """
    section = values.get("incremental") or {}
    if not isinstance(section, dict):
        raise ConfigError(f"incremental: a section is expected, not {section!r}; write incremental: {{parent: ...}}")
    parent = continue_from or section.get("parent")
    if not isinstance(parent, str):
        return values
    from fairlead.names import ModelRef
    from fairlead.registry import open_registry

    ref = ModelRef.parse(parent)
    with open_registry() as registry:
        version = registry.resolve(ref)
    taken: dict[str, Any] = {"project": version.project, **parent_settings(version)}
    if version.manifest.training.task == LANGUAGE_MODELING:
        own = {name: value for name, value in values.items() if name != "incremental"}
        base = {"model": {"base": f"{VERSION_SCHEME}{parent}"}}
        return _laid_over(_laid_over(taken, own), base)
    return _laid_over(taken, values | {"incremental": {**section, "parent": parent}})


def parent_settings(version: "VersionRecord") -> dict[str, dict[str, Any]]:
    """The settings that a version was made with, by section, as far as this release knows them."""
    from fairlead.project import ProjectConfig
    from fairlead.training.config import CARRYING_OUT

    recorded = {**version.manifest.training.config, "evaluation": version.manifest.evaluation_config}
    sections = {}
    for name in ("data", "tokenization", "model", "training", "evaluation"):
        known: Any = ProjectConfig.model_fields[name].annotation
        left = {*CARRYING_OUT} if name == "training" else NOT_TAKEN.get(name, set())
        wanted = known.model_fields.keys() - left
        values = recorded.get(name, {}).items()
        sections[name] = {key: value for key, value in values if key in wanted and value is not None}
    return sections


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Section by section; a setting that is itself a mapping (a gate) is replaced as a whole."""
    merged = dict(below)
    for name, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = {**merged[name], **value}
        else:
            merged[name] = value
    return merged
