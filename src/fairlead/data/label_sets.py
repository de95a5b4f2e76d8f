"""Sets of class names as they stand in a file: a JSON list, a list as Python prints it, or names with a separator."""

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fairlead.data.config import DataConfig
from fairlead.errors import DataError

LONG_LABEL = "the label is too long"
# Every label is held in memory; a longer one comes from a column of texts.
MAX_LABEL_CHARACTERS = 1000
EMPTY_NAME = "the label holds an empty name"
BAD_LIST = "the label is a list that cannot be read"
NOT_NAMES = "the label is a list of something else than names"
SEPARATORS = ("|", ",", ";", "/", "\t", "&", " ")

_QUOTED = r"""(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
# Commas are asked for: `['a' 'b']`, as NumPy prints it, is to Python the one name `ab`.
_PYTHON_LIST = re.compile(rf"\[\s*(?:{_QUOTED}\s*(?:,\s*{_QUOTED}\s*)*,?\s*)?\]")


def read_set(label: str, separator: str) -> tuple[str, str, str]:
    """The set in canonical form with two empty strings, or an empty string with the reason and detail.

    An empty field is the empty set, as `[]` is.
    """
    text = label.strip()
    if text.startswith("[") and text.endswith("]"):
        names, reason = _read_list(text)
    else:
        # Two separators in a row, or one at the end, separate nothing.
        names, reason = [part for part in map(str.strip, text.split(separator)) if part], ""
    if any(len(name) > MAX_LABEL_CHARACTERS for name in names):
        return "", LONG_LABEL, f"{max(map(len, names))} characters"
    return ("", reason, text[:40]) if reason else (json.dumps(sorted(set(names)), ensure_ascii=False), "", "")


def parse_set(label: str) -> list[str]:
    """The names of a set in canonical form."""
    names: list[str] = json.loads(label)
    return names


def check_separator(names: Sequence[str], config: DataConfig, where: str) -> None:
    """Raise DataError when no row has two labels, but would with another separator.

    Another one is likely when at least half of the parts that it gives come back in other labels: `a,b` beside `b`.
    """
    for candidate in SEPARATORS:
        if candidate == config.label_separator or not any(candidate in name for name in names):
            continue
        parts = Counter(part for name in names for part in {p.strip() for p in name.split(candidate)} if part)
        repeated = sum(count > 1 for count in parts.values())
        if repeated * 2 >= len(parts):
            shown = next(name for name in names if candidate in name)
            raise DataError(
                f"{where}: no row has two labels separated by {config.label_separator!r}, but many hold {candidate!r} "
                f"({shown[:60]!r}); set data.label_separator"
            )


def _read_list(text: str) -> tuple[list[str], str]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        if not _PYTHON_LIST.fullmatch(text):
            return [], BAD_LIST
        values = [_unquoted(found) for found in re.findall(_QUOTED, text)]
    if not all(isinstance(value, str | int | float) for value in values):
        return [], NOT_NAMES
    names = [_name(value) for value in values]
    return (names, "") if all(names) else ([], EMPTY_NAME)


def _unquoted(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _name(value: str | float | bool) -> str:
    """A name as JSON writes it: `true`, `3`."""
    return value.strip() if isinstance(value, str) else json.dumps(value)
