"""What differs between a recorded version and the same version run again here, and how far their metrics are."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fairlead.formats.model import Code, Environment, TrainingRecord
from fairlead.project import ProjectConfig
from fairlead.training.config import CARRYING_OUT

Differences = dict[str, list[Any]]

# The recorded sections that decide weights; those of the evaluation decide how they are measured.
SECTIONS = ("tokenization", "model", "training", "evaluation")
# Not settings: what tokenize notes beside them; the base is a link of its own; how a run was carried out.
NOT_SETTINGS = {"tokenization": {"base"}, "model": {"base"}, "training": set(CARRYING_OUT)}


def differences(recorded: TrainingRecord, here: TrainingRecord, settings: Differences) -> dict[str, Differences]:
    """By kind (code, data, environment, settings) and name: the recorded value and the one here."""
    data = {"tokens_digest": [recorded.tokens_digest, here.tokens_digest]}
    return {
        "code": code_differences(recorded.code, here.code),
        "data": {name: pair for name, pair in data.items() if pair[0] != pair[1]},
        "environment": environment_differences(recorded.environment, here.environment),
        "settings": settings,
    }


def code_differences(recorded: Code, here: Code) -> Differences:
    """Package version, source digest, commit and digest of the changes to it."""
    return _differing(recorded.to_dict(), here.to_dict())


def environment_differences(recorded: Environment, here: Environment) -> Differences:
    """Python, torch, packages, image, hardware class, processes and threads."""
    return _differing(recorded.to_dict(), here.to_dict())


def known_settings(recorded: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], Differences]:
    """The recorded settings that this code knows, by section, and those that it and the record do not share.

    A setting of before is named with what it was, and one of later with the default that stands for it now.
    """
    known: dict[str, dict[str, Any]] = {}
    unshared: Differences = {}
    for section in SECTIONS:
        fields = _fields(section)
        values = {k: v for k, v in recorded.get(section, {}).items() if k not in NOT_SETTINGS.get(section, ())}
        known[section] = {name: value for name, value in values.items() if name in fields and value is not None}
        gone = {f"{section}.{name}": [value, "unknown here"] for name, value in values.items() if name not in fields}
        # A record of before evaluations were kept says nothing of them.
        later = fields.keys() - recorded.get(section, fields).keys() - NOT_SETTINGS.get(section, set())
        unshared |= gone | {f"{section}.{name}": ["not recorded", fields[name]] for name in sorted(later)}
    return known, unshared


def distance(recorded: Mapping[str, float], here: Mapping[str, float]) -> float:
    """The largest |a - b| / max(1, |a|) over the metrics that both have: points of a score, a share of a loss."""
    shared = recorded.keys() & here.keys()
    return max((abs(recorded[name] - here[name]) / max(1.0, abs(recorded[name])) for name in shared), default=0.0)


def _fields(section: str) -> dict[str, Any]:
    """The defaults of a section's settings, by name."""
    kind: Any = ProjectConfig.model_fields[section].annotation
    assert issubclass(kind, BaseModel)
    return {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in kind.model_fields.items()
    }


def _differing(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> Differences:
    names = list(dict.fromkeys((*recorded, *here)))
    return {name: [recorded.get(name), here.get(name)] for name in names if recorded.get(name) != here.get(name)}
