"""What a row's label is, by task: how it is read, numbered, split by and counted.

Every kind keeps a label as one string in canonical form, so that equal labels are equal strings: a class name; a
JSON list of class names, sorted and without repetitions; a number as Python's `repr` writes it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt

from fairlead.data.config import DataConfig
from fairlead.data.label_sets import LONG_LABEL, MAX_LABEL_CHARACTERS, check_separator, parse_set, read_set
from fairlead.data.tallies import ClassTally, NumberTally, SetTally, Tally
from fairlead.errors import DataError
from fairlead.names import CLASSIFICATION, MULTI_LABEL, REGRESSION

Ids = npt.NDArray[np.int32]

EMPTY_LABEL = "the label is empty"
NOT_A_NUMBER = "the label is not a number"
NOT_FINITE = "the label is not a finite number"
# Weights and outputs are 32-bit floats.
LARGEST = float(np.finfo(np.float32).max)


class Labels(Protocol):
    """The labels of one ingest."""

    def read(self, label: str) -> tuple[str, str, str]:
        """The canonical form of a label with two empty strings, or an empty string with the reason and detail."""

    def number(self, labels: Sequence[str], where: str, num_rows: int) -> Ids:
        """The ids of canonical labels: equal ones have equal ids.

        Raises DataError when the first `num_rows` rows have more classes than data.max_classes.
        """

    def settle(self, pool: Ids, where: str) -> None:
        """Learn what the pool of rows to train on holds, once it is read. Raises DataError for a wrong separator."""

    def strata(self, ids: Ids) -> Ids:
        """What rows are split by: of each stratum every split gets its share."""

    def classes(self, ids: Ids) -> set[str]:
        """Names of the classes among rows with these ids."""

    def keep_trainable(self, codes: npt.NDArray[np.int16], ids: Ids, train: int) -> None:
        """Give rows of the pool to `train`, where otherwise it would lack one of their classes."""

    def tally(self) -> Tally:
        """A new count of the labels of a split."""


class ClassNames:
    """One class a row."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._ids: dict[str, int] = {}

    def read(self, label: str) -> tuple[str, str, str]:
        """The label as it is."""
        if not label.strip():
            return "", EMPTY_LABEL, ""
        return ("", LONG_LABEL, f"{len(label)} characters") if len(label) > MAX_LABEL_CHARACTERS else (label, "", "")

    def number(self, labels: Sequence[str], where: str, num_rows: int) -> Ids:
        """In order of appearance."""
        for label in dict.fromkeys(labels):
            self._ids.setdefault(label, len(self._ids))
        _check_number(len(self._ids), self._config, where, num_rows)
        return np.fromiter(map(self._ids.__getitem__, labels), np.int32, len(labels))

    def settle(self, pool: Ids, where: str) -> None:
        """Nothing to learn."""

    def strata(self, ids: Ids) -> Ids:
        """The classes."""
        return ids

    @property
    def names(self) -> list[str]:
        """By id."""
        return list(self._ids)

    def classes(self, ids: Ids) -> set[str]:
        """Names of the classes."""
        names = self.names
        return {names[i] for i in np.flatnonzero(np.bincount(ids)).tolist()}

    def keep_trainable(self, codes: npt.NDArray[np.int16], ids: Ids, train: int) -> None:
        """Of each class at least one row is left to train on."""

    def tally(self) -> Tally:
        """Rows of each class."""
        return ClassTally()


class ClassSets:
    """Any number of classes a row, none too.

    Rows are split by the rarest class that they have (those without a class are a stratum of their own): first-order
    stratification as of Sechidis et al., 2011, "On the Stratification of Multi-Label Data", where a row counts for
    the class that is hardest to spread, in one pass and whatever the order of the rows.
    """

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._ids: dict[str, int] = {}
        self._classes: dict[str, int] = {}
        self._members: list[tuple[int, ...]] = []
        self._strata: Ids = np.zeros(0, np.int32)

    def read(self, label: str) -> tuple[str, str, str]:
        """The set in canonical form."""
        return read_set(label, self._config.label_separator)

    def number(self, labels: Sequence[str], where: str, num_rows: int) -> Ids:
        """In order of appearance."""
        for label in dict.fromkeys(labels):
            if label not in self._ids:
                self._ids[label] = len(self._ids)
                members = (self._classes.setdefault(name, len(self._classes)) for name in parse_set(label))
                self._members.append(tuple(members))
        if len(self._classes) > self._config.max_classes:
            self._check_separator(where)
        _check_number(len(self._classes), self._config, where, num_rows)
        return np.fromiter(map(self._ids.__getitem__, labels), np.int32, len(labels))

    def settle(self, pool: Ids, where: str) -> None:
        """Count the classes, and choose each set's stratum."""
        self._check_separator(where)
        sets = np.bincount(pool, minlength=len(self._members))
        counts = np.zeros(len(self._classes), np.int64)
        for members, count in zip(self._members, sets.tolist(), strict=True):
            counts[list(members)] += count
        none = len(self._classes)
        rarest = (min(members, key=lambda i: (counts[i], i), default=none) for members in self._members)
        self._strata = np.fromiter(rarest, np.int32, len(self._members))

    def strata(self, ids: Ids) -> Ids:
        """The rarest class of each."""
        return self._strata[ids]

    def classes(self, ids: Ids) -> set[str]:
        """Names of all classes of the sets."""
        names = list(self._classes)
        sets = np.flatnonzero(np.bincount(ids)).tolist()
        return {names[i] for i in {member for i in sets for member in self._members[i]}}

    def keep_trainable(self, codes: npt.NDArray[np.int16], ids: Ids, train: int) -> None:
        """Move the rows of a class that all fell to other splits, as they can beside rarer classes."""
        trained = self.classes(ids[codes == train])
        lacking = {self._classes[name] for name in self.classes(ids[codes >= 0]) - trained}
        if lacking:
            wanted = np.array([not lacking.isdisjoint(members) for members in self._members])
            codes[(codes >= 0) & wanted[ids]] = train

    def tally(self) -> Tally:
        """Rows of each class."""
        return SetTally()

    def _check_separator(self, where: str) -> None:
        if all(len(members) < 2 for members in self._members):
            check_separator(list(self._classes), self._config, where)


class Numbers:
    """A number a row."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def read(self, label: str) -> tuple[str, str, str]:
        """The number as `repr` writes it: `3`, `3.0` and `3e0` are one."""
        try:
            # float() would read 1_000, which no file means.
            value = float(label) if "_" not in label else None
        except ValueError:
            value = None
        if value is None:
            return ("", NOT_A_NUMBER, repr(label[:40])) if label.strip() else ("", EMPTY_LABEL, "")
        # Also false for what is not a number. -0.0 and 0.0 are one number.
        return (repr(value + 0.0), "", "") if abs(value) <= LARGEST else ("", NOT_FINITE, label[:40])

    def number(self, labels: Sequence[str], where: str, num_rows: int) -> Ids:
        """By checksum: ids only tell rows with one text apart, and numbers may all be different."""
        return np.fromiter((crc32(label.encode()) for label in labels), np.uint32, len(labels)).view(np.int32)

    def settle(self, pool: Ids, where: str) -> None:
        """Nothing to learn."""

    def strata(self, ids: Ids) -> Ids:
        """One: rows are drawn by seed."""
        return np.zeros(len(ids), np.int32)

    def classes(self, ids: Ids) -> set[str]:
        """None."""
        return set()

    def keep_trainable(self, codes: npt.NDArray[np.int16], ids: Ids, train: int) -> None:
        """Every number can be trained on."""

    def tally(self) -> Tally:
        """Mean, spread and range."""
        return NumberTally()


KINDS: dict[str, Callable[[DataConfig], Any]] = {
    CLASSIFICATION: ClassNames,
    MULTI_LABEL: ClassSets,
    REGRESSION: Numbers,
}


def labels_for(config: DataConfig) -> Labels:
    """The labels of the task that `config` names."""
    labels: Labels = KINDS[config.task](config)
    return labels


def _check_number(found: int, config: DataConfig, where: str, num_rows: int) -> None:
    if found > config.max_classes:
        raise DataError(
            f"{where}: column {config.label!r} has more than {config.max_classes} different labels in its "
            f"first {num_rows} rows; it looks like the wrong column: set data.label, or raise data.max_classes"
        )
