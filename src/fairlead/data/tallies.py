"""Counts the labels of a split while it is written."""

import json
import math
from collections import Counter
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Tally(Protocol):
    """The labels of one split."""

    def add(self, labels: pa.Array) -> None:
        """Count a batch of canonical labels."""

    def counts(self) -> dict[str, int]:
        """Rows of each class, by name."""

    def numbers(self) -> dict[str, float]:
        """Mean, standard deviation, least and greatest of the numbers; empty for classes."""


class ClassTally:
    """One class a row."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, labels: pa.Array) -> None:
        """Count the rows of each label."""
        count_values(labels, self._counts)

    def counts(self) -> dict[str, int]:
        """Rows of each class."""
        return dict(sorted(self._counts.items()))

    def numbers(self) -> dict[str, float]:
        """None."""
        return {}


class SetTally(ClassTally):
    """Any number of classes a row: a row counts for each of them."""

    def counts(self) -> dict[str, int]:
        """Rows of each class."""
        counts: Counter[str] = Counter()
        for names, count in self._counts.items():
            counts.update(dict.fromkeys(json.loads(names), count))
        return dict(sorted(counts.items()))


class NumberTally:
    """A number a row. Means are merged batch by batch (Chan et al., 1979), which loses no digits."""

    def __init__(self) -> None:
        self._rows, self._mean, self._squares = 0, 0.0, 0.0
        self._least, self._greatest = math.inf, -math.inf

    def add(self, labels: pa.Array) -> None:
        """Take in a batch."""
        values = np.asarray(pc.cast(labels, pa.float64()))
        if len(values) == 0:
            return
        mean, rows = float(values.mean()), self._rows + len(values)
        step = mean - self._mean
        self._squares += float(np.square(values - mean).sum()) + step * step * self._rows * len(values) / rows
        self._mean += step * len(values) / rows
        self._rows = rows
        self._least, self._greatest = min(self._least, float(values.min())), max(self._greatest, float(values.max()))

    def counts(self) -> dict[str, int]:
        """No classes."""
        return {}

    def numbers(self) -> dict[str, float]:
        """What was found."""
        if not self._rows:
            return {}
        std = math.sqrt(self._squares / self._rows)
        return {"mean": self._mean, "std": std, "min": self._least, "max": self._greatest}


def count_values(values: pa.Array, counts: Counter[Any]) -> None:
    """Add how often each value occurs."""
    for found in values.value_counts().to_pylist():
        counts[found["values"]] += found["counts"]
