"""What is optimized: a trained model, and rows of its tokens.

Shapes: N rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.evaluation.judges import Terms
from fairlead.formats.model import TrainingRecord
from fairlead.formats.tokens import TokenArrays, known_rows

BINS = 15
TokenIds = list[list[int]]


@dataclass(frozen=True)
class Rows:
    """Texts as token ids, with what they are."""

    token_ids: TokenIds
    targets: npt.NDArray[Any]
    """Of each text: a class id, a set of labels (C,), or a number."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self.token_ids]


@dataclass(frozen=True)
class Material:
    """A trained model with the rows that decide about its variants."""

    folder: Path
    """The model in the Hugging Face layout."""
    record: TrainingRecord
    pad_token_id: int
    train: TokenIds
    """Texts for calibration of activations."""
    validation: Rows
    test: Rows
    out_of_scope: TokenIds = field(default_factory=list)

    @property
    def terms(self) -> Terms:
        """What the outputs mean."""
        return Terms(self.record.labels, self.record.thresholds, None, BINS)


def spread(arrays: TokenArrays, record: TrainingRecord, limit: int) -> Rows:
    """At most `limit` rows of a split whose labels the model knows, spread evenly over it."""
    chosen = evenly(np.flatnonzero(known_rows(np.asarray(arrays.labels), record.task)), limit)
    return Rows(ids_of(arrays, chosen), np.array(arrays.labels[chosen]))


def texts(arrays: TokenArrays, limit: int) -> TokenIds:
    """At most `limit` texts of a split, whatever their labels."""
    return ids_of(arrays, evenly(np.arange(arrays.num_rows), limit))


def ids_of(arrays: TokenArrays, rows: Sequence[int] | npt.NDArray[np.int64]) -> TokenIds:
    """Token ids of some rows."""
    return [arrays.row(int(row)).tolist() for row in rows]


def evenly(rows: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """At most `limit` of the rows, at equal distances."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)]
