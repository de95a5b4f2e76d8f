"""Stratified split by seed.

Texts of a class are ranked by the digest of their normal form, salted with the seed: the first go to
test, the next to validation, the rest to train. So which split a text falls into depends on the
seed, the fractions and which texts its class has, not on the order of the file.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TRAIN_CODE, VALIDATION_CODE, TEST_CODE = range(3)
# Rows decided on at once; the arrays of a step stay below 20 MB.
ROWS_AT_ONCE = 1 << 20


class Ranks:
    """The rank of every text among its class's texts, given in the order of their digests."""

    def __init__(self, num_rows: int) -> None:
        self.by_row = np.zeros(num_rows, np.uint32)
        self.counts = np.zeros(0, np.int64)
        """Texts of each class."""

    def add(self, rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int32]) -> None:
        """Rank the texts in `rows`, which come after all before them."""
        counts = np.bincount(labels, minlength=len(self.counts))
        before = np.concatenate([self.counts, np.zeros(len(counts) - len(self.counts), np.int64)])
        order = np.argsort(labels, kind="stable")
        starts = np.cumsum(counts) - counts
        by_class = labels[order]
        self.by_row[rows[order]] = before[by_class] + np.arange(len(rows)) - starts[by_class]
        self.counts = before + counts


def split(
    ranks: Ranks, labels: npt.NDArray[np.int32], validation_fraction: float, test_fraction: float
) -> npt.NDArray[np.uint8]:
    """The split code of each row by its rank. A fraction of 0 leaves that split out.

    Of a class's n texts round(n * fraction) go to test and to validation, at least one to each
    as long as one is left to train on.
    """
    # A class whose rows are all dropped, or follow rows of another class, was never ranked.
    counts = np.zeros(max(len(ranks.counts), int(labels.max(initial=-1)) + 1), np.int64)
    counts[: len(ranks.counts)] = ranks.counts
    parts = [shares(count, (test_fraction, validation_fraction)) for count in counts.tolist()]
    ends = np.cumsum(np.array(parts, np.int64).reshape(-1, 2), axis=1)
    codes = np.full(len(labels), TRAIN_CODE, np.uint8)
    for start in range(0, len(labels), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        end_test, end_validation = ends[labels[some]].T
        codes[some][ranks.by_row[some] < end_validation] = VALIDATION_CODE
        codes[some][ranks.by_row[some] < end_test] = TEST_CODE
    return codes


def shares(num_texts: int, fractions: Sequence[float]) -> list[int]:
    """How many of a class's texts go to each split that is split off."""
    left, counts = num_texts - 1, []
    for fraction in fractions:
        wanted = max(1, int(num_texts * fraction + 0.5)) if fraction else 0
        counts.append(max(0, min(wanted, left)))
        left -= counts[-1]
    return counts
