"""Every setting with its type, default, range and meaning, read off the settings classes themselves."""

import difflib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fairlead.cluster.config import CompileSettings
from fairlead.errors import ConfigError
from fairlead.project import ProjectConfig

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}

_MARKDOWN_HEAD = """\
# Settings

Every setting of a project file (`fairlead.yaml`), generated from the settings classes by
`fairlead config explain --markdown`. Any of them can be laid over a file for one run:
`fairlead run --set training.learning_rate=1e-4`.
"""


@dataclass(frozen=True)
class Setting:
    """One setting, or one section when `kind` is `section`."""

    name: str
    kind: str
    default: str
    range: str
    text: str


def list_settings(cls: type[BaseModel] = ProjectConfig, prefix: str = "") -> Iterator[Setting]:
    """Every setting and section under `cls`, depth first, in the order of the classes."""
    for name, field in cls.model_fields.items():
        kind = field.annotation
        text = " ".join((field.description or "").split())
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield Setting(prefix + name, "section", "", "", text)
            yield from list_settings(kind, f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, _kind(kind), _default(field), _range(field), text)


def everything() -> list[Setting]:
    """The settings of a project file: the project's own, then the cluster's, which decide no result."""
    cluster = Setting("cluster", "section", "", "", " ".join((CompileSettings.__doc__ or "").split()))
    return [*list_settings(), cluster, *list_settings(CompileSettings, "cluster.")]


def select(path: str | None) -> list[Setting]:
    """The settings at or under a dotted path. Raises ConfigError, with the nearest name, when there is none."""
    known = everything()
    if path is None:
        return known
    found = [s for s in known if s.name == path or s.name.startswith(f"{path}.")]
    if not found:
        near = _nearest(path, [s.name for s in known])
        hint = f"did you mean {near!r}?" if near else "see fairlead config explain"
        raise ConfigError(f"config explain: there is no setting {path!r}; {hint}")
    return found


def _nearest(path: str, names: list[str]) -> str | None:
    """The setting that `path` may have meant: one of the section that it names, else one of all."""
    section, _, leaf = path.rpartition(".")
    leaves = {name.rpartition(".")[2]: name for name in names}
    if leaf in leaves:
        return leaves[leaf]
    if section in names:
        siblings = {name.rpartition(".")[2]: name for name in names if name.startswith(f"{section}.")}
        return _nearest_leaf(leaf, siblings, 0.5) or _nearest_leaf(leaf, leaves, 0.6)
    near = difflib.get_close_matches(path, names, n=1, cutoff=0.5)
    return near[0] if near else _nearest_leaf(path, leaves, 0.6)


def _nearest_leaf(leaf: str, names: dict[str, str], cutoff: float) -> str | None:
    """The name whose last part is short for `leaf` (`lr`: learning_rate) or spelt much like it."""
    short = [part for part in names if "".join(word[0] for word in part.split("_")) == leaf]
    near = short or difflib.get_close_matches(leaf, names, n=1, cutoff=cutoff)
    return names[near[0]] if near else None


def to_markdown() -> str:
    """The reference page: a table for each section."""
    lines = [_MARKDOWN_HEAD]
    settings = everything()
    lines += _markdown_table([s for s in settings if "." not in s.name and s.kind != "section"])
    for section in (s for s in settings if s.kind == "section"):
        lines += ["", f"## {section.name}", "", section.text, ""]
        lines += _markdown_table([s for s in settings if s.name.startswith(f"{section.name}.")])
    return "\n".join(lines) + "\n"


def _markdown_table(settings: list[Setting]) -> list[str]:
    rows = ["| setting | type | range | default | meaning |", "|---|---|---|---|---|"]
    for s in settings:
        cells = [f"`{s.name}`", s.kind, s.range, f"`{s.default}`" if s.default else "", s.text]
        rows.append("| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |")
    return rows


def _kind(kind: Any) -> str:
    """A type in words: `whole number`, `one of a, b`, `text or null`."""
    plain = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: "null"}
    if kind in plain:
        return plain[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _kind(parts[0])
    if origin is Literal:
        return "one of " + ", ".join(str(part) for part in parts)
    if origin in (UnionType, typing.Union):
        return " or ".join(_kind(part) for part in parts)
    if origin is dict:
        return f"{_kind(parts[1])} by name"
    if origin in (list, tuple):
        return f"list of {_kind(parts[0])}"
    return str(kind)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _range(field: FieldInfo) -> str:
    bounds = [(name, getattr(item, name, None)) for item in field.metadata for name in _BOUNDS]
    return ", ".join(f"{_BOUNDS[name]} {bound:,}" for name, bound in bounds if bound is not None)
