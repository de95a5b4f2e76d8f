"""Reads the text and label columns of a Parquet file."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.data.columns import find_column
from fairlead.data.rows import Batch, Rejected
from fairlead.errors import DataError
from fairlead.names import CLASSIFICATION, MULTI_LABEL, REGRESSION, TaskName

NULL = "a null value"
ROWS_PER_READ = 1024
MORE_KINDS = {MULTI_LABEL: " or a list of them", REGRESSION: " or number"}


def open_parquet(path: Path, text: str, label: str, where: str, task: TaskName = CLASSIFICATION) -> tuple[str, str]:
    """The names of the text and label columns. Raises DataError when they cannot be used."""
    try:
        schema = pq.read_schema(path)
    except pa.ArrowException as error:
        raise DataError(f"{where}: it is not a Parquet file; correct the file or data.format") from error
    names = list(schema.names)
    text_name = names[find_column(text, names, "data.text", where)]
    label_name = names[find_column(label, names, "data.label", where)]
    text_type, label_type = _value_type(schema, text_name), _value_type(schema, label_name)
    if not _is_string(text_type):
        raise DataError(f"{where}: column {text_name!r} is {text_type}, not a string; set data.text")
    kinds = "a string, integer or boolean" + MORE_KINDS.get(task, "")
    if not _is_label(label_type, task):
        raise DataError(f"{where}: column {label_name!r} is {label_type}, not {kinds}; set data.label")
    return text_name, label_name


def read_parquet(path: Path, text: str, label: str, source: str, where: str) -> Iterator[Batch]:
    """Yield the file's rows in batches; a row's line is its 1-based number."""
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for rows in file.iter_batches(ROWS_PER_READ, columns=[text, label]):
                batch = Batch()
                for words, value in zip(rows[text].to_pylist(), rows[label].to_pylist(), strict=True):
                    number += 1
                    _add(batch, words, value, number, source)
                yield batch
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: it cannot be read after row {number} ({_first_line(error)}); write it again"
        ) from error


def _add(batch: Batch, text: str | None, label: Any, number: int, source: str) -> None:
    if text is None or label is None:
        batch.rejected.append(Rejected(source, number, NULL, "text" if text is None else "label", text or ""))
    else:
        batch.add(text, _label_text(label), number, source)


def _label_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _value_type(schema: pa.Schema, name: str) -> pa.DataType:
    kind = schema.field(name).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_label(kind: pa.DataType, task: TaskName) -> bool:
    if task == REGRESSION and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return True
    if task == MULTI_LABEL and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return _is_label(kind.value_type, CLASSIFICATION)
    return _is_string(kind) or bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
