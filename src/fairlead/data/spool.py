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
from fairlead.data.labels import labels_for
from fairlead.data.rows import Batch, Rejected, printable

SCHEMA = pa.schema([("text", pa.string()), ("label", pa.string()), ("line", pa.int64()), ("source", pa.string())])

EMPTY_TEXT = "the text is empty"
TOO_LONG = "longer than data.max_text_bytes"
NUL = "a NUL character"
UNDECODABLE = "bytes that do not decode"


class Spool:
    """Takes batches in; gives them back in the same order with the number of each first row."""

    def __init__(self, folder: Path, config: DataConfig) -> None:
        folder.mkdir(parents=True)
        self.keys = KeyFiles(folder / "keys")
        self.labels = labels_for(config)
        self.num_rows = 0
        self._config = config
        self._label_parts: list[npt.NDArray[np.int32]] = []
        self._path = folder / "rows.arrow"
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_stream(self._path, SCHEMA, options=options)

    def add(self, batch: Batch, where: str) -> list[Rejected]:
        """Spool the usable rows of a batch; return the others. Raises DataError above data.max_classes."""
        normals = [normal_form(text) for text in batch.texts]
        read = {label: self.labels.read(label) for label in dict.fromkeys(batch.labels)}
        rejected = self._unusable(batch, normals, read)
        if rejected:
            _remove(batch, normals, set(rejected))
        batch.labels[:] = [read[label][0] for label in batch.labels]
        if batch.texts:
            self._take(batch, normals, where)
        return list(rejected.values())

    def _take(self, batch: Batch, normals: list[str], where: str) -> None:
        self._write(batch)
        labels = self.labels.number(batch.labels, where, self.num_rows + len(batch.texts))
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

    def _unusable(self, batch: Batch, normals: list[str], read: dict[str, tuple[str, str, str]]) -> dict[int, Rejected]:
        """Why a row cannot be used, by position; most batches pass by a few checks of the whole."""
        limit = self._config.max_text_bytes
        if (
            all(normals)
            and max(map(len, batch.texts), default=0) * 4 <= limit
            and not any(reason or _character_problem(label, "label")[0] for label, (_, reason, _) in read.items())
            and _clean("".join(batch.texts))
        ):
            return {}
        found = {}
        for i, (text, label, normal) in enumerate(zip(batch.texts, batch.labels, normals, strict=True)):
            reason, detail = _problem(text, label, normal, limit, read[label])
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


def _problem(text: str, label: str, normal: str, limit: int, read: tuple[str, str, str]) -> tuple[str, str]:
    reason, detail = _character_problem(text, "text")
    if reason:
        return reason, detail
    if not normal:
        return EMPTY_TEXT, ""
    num_bytes = len(text.encode())
    if num_bytes > limit:
        return TOO_LONG, f"{num_bytes} bytes"
    _, reason, detail = read
    problem = _character_problem(label, "label")
    return problem if problem[0] else (reason, detail)


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
