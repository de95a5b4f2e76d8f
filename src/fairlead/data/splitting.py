"""Stratified split by seed.

A text's place among its class's texts is drawn from the seed and the digest of its normal form
alone. So which split a text falls into depends on the seed, the fractions and which texts its class
has, not on the order of the file; rows of one text always fall into one split.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TRAIN_CODE, VALIDATION_CODE, TEST_CODE = range(3)


def draw(highs: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """A number for each text from its digest and the seed (the finaliser of splitmix64)."""
    value = highs ^ np.uint64((seed + 1) * 0x9E3779B97F4A7C15 & (2**64 - 1))
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def split(
    highs: npt.NDArray[np.uint64],
    labels: npt.NDArray[np.int32],
    validation_fraction: float,
    test_fraction: float,
    seed: int,
) -> npt.NDArray[np.uint8]:
    """The split code of each text. A fraction of 0 leaves that split out.

    Of a class's n texts round(n * fraction) go to test and to validation, at least one to each
    as long as one is left to train on.
    """
    codes = np.full(len(highs), TRAIN_CODE, np.uint8)
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(labels.max(initial=-1) + 2))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        members = order[start:end]
        ranked = members[np.argsort(draw(highs[members], seed), kind="stable")]
        num_test, num_validation = shares(len(members), (test_fraction, validation_fraction))
        codes[ranked[:num_test]] = TEST_CODE
        codes[ranked[num_test : num_test + num_validation]] = VALIDATION_CODE
    return codes


def shares(num_texts: int, fractions: Sequence[float]) -> list[int]:
    """How many of a class's texts go to each split that is split off."""
    left, counts = num_texts - 1, []
    for fraction in fractions:
        wanted = max(1, int(num_texts * fraction + 0.5)) if fraction else 0
        counts.append(max(0, min(wanted, left)))
        left -= counts[-1]
    return counts
