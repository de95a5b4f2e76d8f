"""A data version on disk: what ingest leaves.

    manifest.json         DataManifest
    train.parquet         columns `text` (string), `label` (string), `line` (int64, 1-based line or
    validation.parquet    row of the source where the row began), `source` (string, which file)
    test.parquet
    <name>.parquet        further named data sets, evaluated but never trained on
    rejected.jsonl        one object a row that was set aside: source, line, reason, excerpt

A `label` is a class name; for multi-label data a JSON list of class names, sorted and without repetitions; for
regression a number as Python's `repr` writes it. For language modelling a row is a document or a part of a long
one: its `label` is empty where a document begins, and `+` where the row goes on with the document before it.

Digests are taken over canonical content, not over Parquet's bytes (which change with the writer's
version). A split's: for each row in order the UTF-8 text and label, each preceded by its length in
bytes as 8 bytes, big endian. The data version's: for each split in name order, its name, number of
rows and digest, a line each, after a line `task: <name>` when the task is not classification: the same
rows mean something else to another task; of a version that continues another one, also a line with its
lineage.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from fairlead.config import Config
from fairlead.errors import IntegrityError, NotFound
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import PREFIX, of_json
from fairlead.names import CLASSIFICATION, TaskName

MANIFEST = "manifest.json"
REJECTED = "rejected.jsonl"
TRAIN, VALIDATION, TEST = "train", "validation", "test"
ROWS_PER_READ = 8192
# The label of a row that continues a document.
CONTINUES = "+"


class SplitSummary(Config):
    """One split of a data version."""

    num_rows: int
    """Rows, at least 1."""
    digest: str
    """SHA-256 over the split's canonical content alone; two data versions with the same test set share it."""
    label_counts: dict[str, int]
    """Rows of each class; a row with several classes counts for each of them. Empty for numbers."""
    numbers: dict[str, float] = Field(default_factory=dict)
    """Mean, std, min and max of the numbers, for regression."""
    num_documents: int | None = None
    """Documents that begin in the split, for language modelling."""
    num_characters: int | None = None
    """Characters of the split, for language modelling."""


class Lineage(Config):
    """What a data version of incremental training took from the model version that it continues."""

    parent: str
    """Name of the parent model version: `support_topics_v3`."""
    parent_digest: str
    """Its digest."""
    data_digest: str
    """The parent's data version: its test split is this version's, rows of its other splits are replayed."""
    labels: list[str]
    """The parent's classes in its order; they come first in this version's."""
    replay: float
    """Share of the parent's training and validation rows that was drawn, 0 to 1."""
    seed: int
    """Seed of the draw."""
    replayed: dict[str, int]
    """Replayed rows by split: those that were drawn and kept. Each row's `source` and `line` say which it is."""


class DataManifest(Config):
    """`manifest.json` of a data version."""

    format: int = 1
    """Version of this format."""
    digest: str
    """SHA-256 over the canonical content of all splits; it names the data version."""
    task: TaskName = CLASSIFICATION
    """What is learned from the rows; data versions of before there were tasks are classification."""
    labels: list[str]
    """Every class of the training split, sorted by code point; the index is the class id. With a lineage the
    parent's labels come first, in its order, whether or not this version has rows of them.
    Empty for numbers."""
    splits: dict[str, SplitSummary]
    """By name: train, validation, test and further named data sets."""
    sources: dict[str, str]
    """Where each split group was read from (credentials removed) by split name."""
    source_digests: dict[str, str]
    """SHA-256 of the bytes read, by source."""
    config: dict[str, Any]
    """The resolved DataConfig."""
    findings: dict[str, Any]
    """Counts: rows_read, rejected, rejected_reasons, encoding, duplicates_exact, duplicates_normalised,
    conflicts, leaked, and what the policy did with each; text length quantiles."""
    lineage: Lineage | None = None
    """What was taken from a parent; None for a version that continues nothing."""


class RowDigest:
    """Builds a split's digest row by row."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.num_rows = 0

    def add(self, text: str, label: str) -> None:
        """Add one row, in order."""
        for value in (text.encode(), label.encode()):
            self._hash.update(len(value).to_bytes(8, "big"))
            self._hash.update(value)
        self.num_rows += 1

    def add_batch(self, texts: pa.Array, labels: pa.Array) -> None:
        """Add the rows of two Arrow string arrays, in order: `add` for many rows, at a third of the time."""
        parts = []
        for values in (texts, labels):
            binary = values.cast(pa.large_binary())
            lengths = np.asarray(pc.binary_length(binary)).astype(">u8").tobytes()
            prefix = pa.Array.from_buffers(pa.binary(8), len(values), [None, pa.py_buffer(lengths)])
            parts += [prefix.cast(pa.large_binary()), binary]
        rows = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
        self._hash.update(b"".join(rows.to_pylist()))
        self.num_rows += len(texts)

    def digest(self) -> str:
        """The digest of the rows so far."""
        return PREFIX + self._hash.hexdigest()


def dataset_digest(
    split_digests: dict[str, tuple[int, str]], task: TaskName = CLASSIFICATION, lineage: Lineage | None = None
) -> str:
    """The data version's digest from its task, each split's number of rows and digest by name, and its lineage."""
    whole = hashlib.sha256(b"" if task == CLASSIFICATION else f"task: {task}\n".encode())
    for name in sorted(split_digests):
        num_rows, digest = split_digests[name]
        whole.update(f"{name}\n{num_rows}\n{digest}\n".encode())
    if lineage:
        whole.update(f"lineage\n{of_json(lineage.to_dict())}\n".encode())
    return PREFIX + whole.hexdigest()


def write_manifest(folder: Path, manifest: DataManifest) -> None:
    """Write `manifest.json`; it is written last, and a folder without it is not a data version."""
    write_json(folder / MANIFEST, manifest.to_dict())


def read_manifest(folder: Path) -> DataManifest:
    """Read `manifest.json`. Raises NotFound when `folder` holds no data version."""
    try:
        return DataManifest.parse(json.loads((folder / MANIFEST).read_text("utf-8")), where=str(folder))
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: it holds no data version (no {MANIFEST}); run ingest first") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{folder / MANIFEST}: it is not JSON ({error}); run ingest again") from error


def read_rows(folder: Path, split: str) -> Iterator[tuple[str, str]]:
    """Yield (text, label) of a split in order, 8,192 rows in memory at a time."""
    with pq.ParquetFile(folder / f"{split}.parquet") as file:
        for batch in file.iter_batches(ROWS_PER_READ, columns=["text", "label"]):
            yield from zip(batch["text"].to_pylist(), batch["label"].to_pylist(), strict=True)


def read_origins(folder: Path, split: str, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[tuple[str, int]]:
    """(source, line) of rows of a split, numbered from 0, in the order asked for."""
    # pyarrow.dataset would do this, too, but it imports pandas: half a second in every process that reads this file.
    with pq.ParquetFile(folder / f"{split}.parquet", read_dictionary=["source"]) as file:
        columns = file.read(columns=["source", "line"]).take(pa.array(rows))
    return list(zip(columns["source"].to_pylist(), columns["line"].to_pylist(), strict=True))


def verify(folder: Path, splits: Iterable[str] | None = None) -> DataManifest:
    """Check the rows of `splits` (default all) against the manifest, and that against its own digest.

    Raises IntegrityError on a difference.
    """
    manifest = read_manifest(folder)
    whole = {name: (split.num_rows, split.digest) for name, split in manifest.splits.items()}
    if dataset_digest(whole, manifest.task, manifest.lineage) != manifest.digest:
        raise IntegrityError(f"{folder / MANIFEST}: it differs from its own digest; run ingest again")
    for name in splits or manifest.splits:
        if _digest_of(folder, name) != manifest.splits[name].digest:
            raise IntegrityError(f"{folder}: the rows of {name!r} differ from the manifest; run ingest again")
    return manifest


def _digest_of(folder: Path, split: str) -> str:
    rows = RowDigest()
    try:
        for text, label in read_rows(folder, split):
            rows.add(text, label)
    # What pyarrow says of a file that was changed depends on where.
    except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise IntegrityError(f"{folder}: the rows of {split!r} cannot be read ({reason}); run ingest again") from error
    return rows.digest()
