"""predictions.parquet: what the model said to every text, for whoever wants to look closer."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairlead.formats import dataset

ROWS_PER_WRITE = 8192
PREDICTION_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("index", pa.int64()),
        ("label", pa.string()),
        ("predicted", pa.string()),
        ("probability", pa.float32()),
    ]
)


def write_predictions(writer: Any, name: str, data: Path, said: Sequence[str], surely: Sequence[float | None]) -> None:
    """Append one row for each text of a data set, 8,192 in memory at a time."""
    start = 0
    for labels in _chunks(label for _, label in dataset.read_rows(data, name)):
        stop = start + len(labels)
        columns = [[name] * len(labels), range(start, stop), labels, said[start:stop], surely[start:stop]]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, PREDICTION_SCHEMA, strict=True)]
        writer.write_table(pa.Table.from_arrays(arrays, schema=PREDICTION_SCHEMA))
        start = stop


def _chunks(labels: Iterator[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for label in labels:
        chunk.append(label)
        if len(chunk) == ROWS_PER_WRITE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
