"""Reads JSONL: one object a line."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from fairlead.data.columns import no_such_column
from fairlead.data.lines import Blocks
from fairlead.data.rows import Batch, Rejected
from fairlead.errors import DataError

# Objects looked at to tell a column that is not there from one that a few rows lack.
OBJECTS_LOOKED_AT = 100
KIND_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}

NOT_JSON = "not JSON"
NOT_OBJECT = "not an object"
MISSING = "a key is missing"
WRONG_KIND = "a value of the wrong type"


class Number(str):
    """A JSON number as it is written: `1.50` stays `1.50` when it is a label."""

    __slots__ = ()


def find_keys(blocks: Blocks, text: str, label: str, where: str) -> None:
    """Raise DataError when the file is empty, or none of its first 100 objects has the keys."""
    found = (_parse(line) for lines in blocks for line in lines if not line.isspace())
    values = list(islice(found, OBJECTS_LOOKED_AT))
    if not values:
        raise DataError(f"{where}: it is empty; give a file with one JSON object a line")
    objects = [value for value in values if isinstance(value, dict)]
    names = list(dict.fromkeys(name for value in objects for name in value))
    for name, setting in ((text, "data.text"), (label, "data.label")):
        if objects and name not in names:
            raise no_such_column(name, names, setting, where)


def read_jsonl(blocks: Blocks, text: str, label: str, source: str, lists: bool = False) -> Iterator[Batch]:
    """Yield the file's rows, a batch for each block; blank lines are skipped. `lists` lets a label be a list."""
    number = 0
    for lines in blocks:
        batch = Batch()
        for line in lines:
            number += 1
            value = _parse(line)
            if value.__class__ is dict and value.get(text).__class__ is str and value.get(label).__class__ is str:
                batch.add(value[text], value[label], number, source)
            elif not line.isspace():
                _take_or_reject(batch, value, (text, label), number, line, source, lists)
        yield batch


def _take_or_reject(
    batch: Batch, value: Any, keys: tuple[str, str], number: int, line: str, source: str, lists: bool
) -> None:
    reason, detail = _problem(value, *keys, lists)
    if reason:
        batch.rejected.append(Rejected(source, number, reason, detail, line.rstrip("\r\n")))
    else:
        batch.add(value[keys[0]], _label_text(value[keys[1]]), number, source)


def _parse(line: str) -> Any:
    """The line's value, or the ValueError that says why it has none."""
    try:
        return _DECODER.decode(line)
    except RecursionError:
        return ValueError("nested too deeply")
    except ValueError as error:
        return error


def _problem(value: Any, text: str, label: str, lists: bool) -> tuple[str, str]:
    if isinstance(value, ValueError):
        return NOT_JSON, str(value)
    if not isinstance(value, dict):
        return NOT_OBJECT, f"the line is {_kind(value)}"
    for key in (text, label):
        if key not in value:
            return MISSING, repr(key)
    if not isinstance(value[text], str) or isinstance(value[text], Number):
        return WRONG_KIND, f"{text!r} is {_kind(value[text])}, not a string"
    if not isinstance(value[label], str | bool) and not (lists and isinstance(value[label], list)):
        wanted = "a string, number, boolean or list" if lists else "a string, number or boolean"
        return WRONG_KIND, f"{label!r} is {_kind(value[label])}, not {wanted}"
    return "", ""


def _label_text(value: str | bool | list[Any]) -> str:
    """A label as JSON writes it: `true`, `3`, `1.50`, `["a", "3"]`."""
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return ("false", "true")[value] if isinstance(value, bool) else str(value)


def _kind(value: Any) -> str:
    return "a number" if isinstance(value, Number) else KIND_NAMES[type(value)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


# A line ends with a newline and may begin with spaces, which JSONDecoder.decode skips.
_DECODER = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_refuse_constant)
