"""The base of every settings class, and how settings are read from YAML, `--set` and pipelines.

A setting is a field of one `Config` class, beside the code that it configures, with its unit,
range and default in the docstring under it. Unknown names and values out of range raise ConfigError.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fairlead.errors import ConfigError


class Config(BaseModel):
    """Frozen settings that refuse unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "config") -> Self:
        """Build the settings from plain values, as YAML, JSON or a KFP struct gives them.

        Integers that arrive as whole doubles (`32.0`) are read back as integers. Raises
        ConfigError, which names the first wrong field, its value and the nearest known name.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_sentence(cls, error, where)) from error

    def to_dict(self) -> dict[str, Any]:
        """The resolved settings as plain JSON values."""
        return self.model_dump(mode="json")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a project file. Raises ConfigError when it is missing, not UTF-8, not YAML or not a mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file; name a project file or use --data") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: it cannot be read as YAML ({reason}); correct the file") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a mapping is expected, not {type(values).__name__}; see the README")
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Lay `a.b=c` overrides over nested values; the text after `=` is read as YAML.

    Raises ConfigError when an override has no `=` or walks through something that is not a section.
    """
    result = _copy(values)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {override}: it has no '='; write --set training.learning_rate=1e-4")
        *sections, last = path.strip().split(".")
        section = result
        for name in sections:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {override}: {name!r} is a value, not a section; shorten the path")
        try:
            section[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value cannot be read as YAML; quote it") from error
    return result


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, dict) else v for k, v in values.items()}


def _sentence(cls: type[Config], error: ValidationError, where: str) -> str:
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        known = known_names(cls)
        near = difflib.get_close_matches(path, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}" if near else f"known here: {', '.join(sorted(known)[:20])}"
        return f"{where}: unknown setting {path!r} (value {_short(first['input'])}); {hint}"
    if first["type"] == "missing":
        return f"{where}: {path!r} is missing; set it in the project file or with --set {path}=..."
    reason = first["msg"].removeprefix("Value error, ")
    is_section = not first["loc"] or any(name.startswith(f"{path}.") for name in known_names(cls))
    if is_section and first["type"] == "value_error":
        # A whole section was refused: its reason names the settings that contradict each other.
        return f"{where}: {'.'.join([*map(str, first['loc']), reason])}"
    return f"{where}: {path} = {_short(first['input'])} is refused: {reason}; correct the value"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def known_names(cls: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted setting name under `cls`, sections included."""
    names = []
    for name, field in cls.model_fields.items():
        names.append(prefix + name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                names += known_names(kind, f"{prefix}{name}.")
    return names
