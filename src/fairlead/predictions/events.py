"""What is kept of each answer: one event a text, in the store as Parquet.

An event has the attributes of CloudEvents 1.0 (specversion, id, source, type, time, subject, datacontenttype); in a
file the fields of its `data` are columns beside them. A file holds events of one process, one project and one hour:

    predictions/<project>/<date>/<hour>/<server>-<number>-<first>-<last>.parquet

`first` and `last` are the lowest and highest time among its prediction ids, 12 hexadecimal digits of Unix
milliseconds. An id names time and server, so a listing of one prefix says which file has its record.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fairlead.predictions.ids import milliseconds_of, server_of

PREFIX = "predictions/"
SPECVERSION = "1.0"
TYPE = "dev.fairlead.prediction.v1"
DATA_TYPE = "application/json"

# Attributes of an event, and fields of its data that are plain values, by the type of their column.
ATTRIBUTES = ("specversion", "id", "source", "type", "time", "subject", "datacontenttype")
COLUMNS = {
    "prediction_id": "string",
    "index": "int32",
    "num_texts": "int32",
    "project": "string",
    "model": "string",
    "version": "string",
    "digest": "string",
    "variant": "string",
    "task": "string",
    "label": "string",
    "probability": "float64",
    "value": "float64",
    "seconds": "float64",
    "text": "string",
    "text_sha256": "string",
}
# Also parts of the answer, for whoever queries the files.
FLAT = ("label", "probability", "value")
# What the texts of a request share.
OF_REQUEST = ("project", "model", "version", "digest", "variant", "task", "seconds")
# Of any form: JSON.
AS_JSON = ("answer", "parameters")


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that was answered."""

    prediction_id: str
    """Its id."""
    project: str
    """The project of the version that answered."""
    model: str
    """The version's name on the endpoint."""
    version: str
    """`support_topics_v3`."""
    digest: str
    """The version's digest."""
    variant: str
    """The variant that computed."""
    task: str
    """What the model gives."""
    seconds: float
    """From the question read to the answer at hand."""
    answers: Sequence[Mapping[str, Any]]
    """One a text, by the names of the signature's outputs: label and probability, or others; of a continuation its
    counts of tokens, the reason of its end, and its text or the text's SHA-256 where texts are kept so."""
    texts: Sequence[str] | None = None
    """The texts, where they are kept."""
    digests: Sequence[str] | None = None
    """Their SHA-256 (`sha256:<hex>`), where these are kept."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the request set, as far as the answer depends on it."""

    def num_text_bytes(self) -> int:
        """About how much memory the texts take."""
        written = sum(len(answer.get("text", "")) for answer in self.answers)
        return written + sum(map(len, self.texts or ()))

    @property
    def source(self) -> str:
        """The process that answered, as CloudEvents name it."""
        return f"/fairlead/{self.project}/{server_of(self.prediction_id)}"

    def events(self) -> list[dict[str, Any]]:
        """As CloudEvents in JSON, one a text."""
        milliseconds = milliseconds_of(self.prediction_id)
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
        common = {
            "specversion": SPECVERSION,
            "source": self.source,
            "type": TYPE,
            "time": moment.replace("+00:00", "Z"),
            "subject": self.version,
            "datacontenttype": DATA_TYPE,
        }
        return [
            common | {"id": f"{self.prediction_id}/{index}", "data": self._data(index)}
            for index in range(len(self.answers))
        ]

    def _data(self, index: int) -> dict[str, Any]:
        answer = self.answers[index]
        kept = {"text": self.texts, "text_sha256": self.digests}
        return {
            "prediction_id": self.prediction_id,
            "index": index,
            "num_texts": len(self.answers),
            "project": self.project,
            "model": self.model,
            "version": self.version,
            "digest": self.digest,
            "variant": self.variant,
            "task": self.task,
            "answer": dict(answer),
            "seconds": self.seconds,
            **({"parameters": dict(self.parameters)} if self.parameters else {}),
            **{name: values[index] for name, values in kept.items() if values is not None},
        }


def to_parquet(answered: Sequence[Answered]) -> bytes:
    """Their events as the bytes of a file. Written by columns: as dictionaries a row costs ten times as much."""
    # pyarrow costs 0.1 s and 40 MB: only the process that writes or reads a file pays.
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, schema, buffer = _columns(answered), _schema(), io.BytesIO()
    table = pa.Table.from_arrays([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _columns(answered: Sequence[Answered]) -> dict[str, list[Any]]:
    rows = [(one, index, answer) for one in answered for index, answer in enumerate(one.answers)]
    ids = [one.prediction_id for one, _, _ in rows]
    return {
        "specversion": [SPECVERSION] * len(rows),
        "type": [TYPE] * len(rows),
        "datacontenttype": [DATA_TYPE] * len(rows),
        "id": [f"{one.prediction_id}/{index}" for one, index, _ in rows],
        "source": [one.source for one, _, _ in rows],
        "time": [milliseconds_of(id) for id in ids],
        "subject": [one.version for one, _, _ in rows],
        "prediction_id": ids,
        "index": [index for _, index, _ in rows],
        "num_texts": [len(one.answers) for one, _, _ in rows],
        "answer": [_to_json(answer) for _, _, answer in rows],
        "parameters": [_to_json(dict(one.parameters)) if one.parameters else None for one, _, _ in rows],
        "text": [one.texts[index] if one.texts else None for one, index, _ in rows],
        "text_sha256": [one.digests[index] if one.digests else None for one, index, _ in rows],
        **{name: [answer.get(name) for _, _, answer in rows] for name in FLAT},
        **{name: [getattr(one, name) for one, _, _ in rows] for name in OF_REQUEST},
    }


# Made once: json.dumps makes one anew for arguments that are not the default.
_to_json = json.JSONEncoder(ensure_ascii=False).encode


def read_parquet(content: bytes, prediction_id: str | None = None) -> list[dict[str, Any]]:
    """The events in the bytes of a file, of one prediction or of all, in order."""
    import pyarrow.parquet as pq

    filters = None if prediction_id is None else [("prediction_id", "=", prediction_id)]
    rows = pq.read_table(io.BytesIO(content), filters=filters).to_pylist()
    return sorted((_event(row) for row in rows), key=lambda event: (event["time"], event["data"]["index"]))


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [(name, pa.timestamp("ms", "UTC") if name == "time" else pa.string()) for name in ATTRIBUTES]
        + [(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()]
        + [(name, pa.string()) for name in AS_JSON]
    )


def _event(row: dict[str, Any]) -> dict[str, Any]:
    event = {name: row[name] for name in ATTRIBUTES}
    event["time"] = row["time"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = {name: row[name] for name in COLUMNS if name not in FLAT and row[name] is not None}
    return event | {"data": data | {name: json.loads(row[name]) for name in AS_JSON if row[name] is not None}}
