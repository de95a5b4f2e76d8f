"""Accepted rows between the two passes of ingest: an Arrow stream on disk, label ids in memory.

Pass one reads the sources, sets unusable rows aside and spools the others; then every row's split
is known; pass two reads the spool and writes the splits.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fairlead.data.config import DataConfig
from fairlead.data.keys import KeyFiles, make_entries, normal_form
from fairlead.data.rows import Batch, Rejected, printable
from fairlead.errors import DataError

SCHEMA = pa.schema([("text", pa.string()), ("label", pa.string()), ("line", pa.int64()), ("source", pa.string())])

EMPTY_TEXT = "the text is empty"
EMPTY_LABEL = "the label is empty"
LONG_LABEL = "the label is too long"
TOO_LONG = "longer than data.max_text_bytes"
NUL = "a NUL character"
# Every label is held in memory; a longer one comes from a column of texts.
MAX_LABEL_CHARACTERS = 1000
UNDECODABLE = "bytes that do not decode"


class Spool:
    """Takes batches in; gives them back in the same order with the number of each first row."""

    def __init__(self, folder: Path, config: DataConfig) -> None:
        folder.mkdir(parents=True)
        self.keys = KeyFiles(folder / "keys")
        self.label_ids: dict[str, int] = {}
        self.num_rows = 0
        self._config = config
        self._label_parts: list[npt.NDArray[np.int32]] = []
        self._path = folder / "rows.arrow"
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_stream(self._path, SCHEMA, options=options)

    def add(self, batch: Batch, where: str) -> list[Rejected]:
        """Spool the usable rows of a batch; return the others. Raises DataError above data.max_classes."""
        normals = [normal_form(text) for text in batch.texts]
        rejected = self._unusable(batch, normals)
        if rejected:
            _remove(batch, normals, set(rejected))
        if batch.texts:
            self._take(batch, normals, where)
        return list(rejected.values())

    def _take(self, batch: Batch, normals: list[str], where: str) -> None:
        self._write(batch)
        self._number_labels(batch, where)
        labels = np.fromiter(map(self.label_ids.__getitem__, batch.labels), np.int32, len(batch.labels))
        self._label_parts.append(labels)
        self.keys.append(make_entries(batch.texts, normals, labels, self.num_rows, self._config.seed))
        self.num_rows += len(batch.texts)

    def finish(self) -> npt.NDArray[np.int32]:
        """End pass one; the label id of every row."""
        self._writer.close()
        self.keys.finish()
        labels = np.concatenate([np.zeros(0, np.int32), *self._label_parts])
        self._label_parts = []
        return labels

    def batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield each batch and the number of its first row."""
        first = 0
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                yield first, batch
                first += batch.num_rows

    def _write(self, batch: Batch) -> None:
        same = batch.sources.count(batch.sources[0]) == len(batch.sources)
        sources = pa.repeat(batch.sources[0], len(batch.sources)) if same else pa.array(batch.sources, pa.string())
        columns = [pa.array(batch.texts, pa.string()), pa.array(batch.labels, pa.string())]
        columns += [pa.array(np.array(batch.lines, np.int64)), sources]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))

    def _number_labels(self, batch: Batch, where: str) -> None:
        for label in dict.fromkeys(batch.labels):
            self.label_ids.setdefault(label, len(self.label_ids))
        if len(self.label_ids) > self._config.max_classes:
            raise DataError(
                f"{where}: column {self._config.label!r} has more than {self._config.max_classes} different labels "
                f"in its first {self.num_rows + len(batch.texts)} rows; it looks like the wrong column: "
                "set data.label, or raise data.max_classes"
            )

    def _unusable(self, batch: Batch, normals: list[str]) -> dict[int, Rejected]:
        """Why a row cannot be used, by position; most batches pass by a few checks of the whole."""
        limit = self._config.max_text_bytes
        labels = dict.fromkeys(batch.labels)
        if (
            all(normals)
            and max(map(len, batch.texts), default=0) * 4 <= limit
            and not any(_label_problem(label)[0] for label in labels)
            and _clean("".join(batch.texts))
        ):
            return {}
        found = {}
        for i, (text, label, normal) in enumerate(zip(batch.texts, batch.labels, normals, strict=True)):
            reason, detail = _problem(text, label, normal, limit)
            if reason:
                found[i] = Rejected(batch.sources[i], batch.lines[i], reason, detail, text)
        return found


def _clean(text: str) -> bool:
    """Whether `text` holds neither NUL nor lone surrogates."""
    return "\0" not in text and _encodes(text)


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problem(text: str, label: str, normal: str, limit: int) -> tuple[str, str]:
    reason, detail = _character_problem(text, "text")
    if reason:
        return reason, detail
    if not normal:
        return EMPTY_TEXT, ""
    num_bytes = len(text.encode())
    return (TOO_LONG, f"{num_bytes} bytes") if num_bytes > limit else _label_problem(label)


def _label_problem(label: str) -> tuple[str, str]:
    if not label.strip():
        return EMPTY_LABEL, ""
    if len(label) > MAX_LABEL_CHARACTERS:
        return LONG_LABEL, f"{len(label)} characters"
    return _character_problem(label, "label")


def _character_problem(value: str, name: str) -> tuple[str, str]:
    if not _encodes(value):
        bad = next(character for character in value if "\ud800" <= character <= "\udfff")
        return UNDECODABLE, f"{printable(bad)} in the {name}"
    return (NUL, f"in the {name}") if "\0" in value else ("", "")


def _remove(batch: Batch, normals: list[str], positions: set[int]) -> None:
    kept = [i for i in range(len(normals)) if i not in positions]
    for words in (batch.texts, batch.labels, batch.sources, normals):
        words[:] = [words[i] for i in kept]
    batch.lines[:] = [batch.lines[i] for i in kept]
