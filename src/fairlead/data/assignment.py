"""Which split every row goes to, once it is known which rows are kept."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fairlead.data.cleaning import FOLLOWS, KEEP, Verdicts
from fairlead.data.config import DataConfig
from fairlead.data.splitting import TRAIN_CODE, split
from fairlead.errors import DataError
from fairlead.formats.dataset import TEST, TRAIN, VALIDATION

DROPPED = -1
NAMES_SHOWN = 10

Codes = npt.NDArray[np.int16]
Labels = npt.NDArray[np.int32]


def assign(
    sources: Sequence[str], ends: Sequence[int], verdicts: Verdicts, labels: Labels, config: DataConfig
) -> tuple[list[str], Codes]:
    """The splits' names, and for every row the index of its split or DROPPED.

    `sources` are the names of the sources, the pool to train on first; `ends[i]` is the row after
    the last of source i.
    """
    # In the order of the codes that a split of the pool gives.
    names = [TRAIN, VALIDATION, TEST, *(name for name in sources if name not in (TRAIN, VALIDATION, TEST))]
    codes = np.full(ends[-1], DROPPED, np.int16)
    codes[: ends[0]] = _split_pool(verdicts, labels[: ends[0]], config)
    for i, name in enumerate(sources[1:], 1):
        codes[ends[i - 1] : ends[i]] = names.index(name)
    codes[(verdicts.fates != KEEP) & (verdicts.fates != FOLLOWS)] = DROPPED
    return names, codes


def check_classes(verdicts: Verdicts, names: Sequence[str], config: DataConfig, where: str) -> None:
    """Raise DataError when the kept rows of the pool have one class only, or a class that cannot be split."""
    counts = verdicts.ranks.counts
    present = [names[i] for i in np.flatnonzero(counts).tolist()]
    after = (
        ""
        if ((verdicts.fates == KEEP) | (verdicts.fates == FOLLOWS)).all()
        else " after duplicates, conflicts and leaks were dropped"
    )
    if not present:
        raise DataError(f"{where}: no row is left to train on{after}; change data.duplicates, conflicts or leakage")
    if len(present) == 1:
        raise DataError(
            f"{where}: every row has the label {present[0]!r}{after}; "
            "give rows of at least two classes, or set data.label"
        )
    single = sorted(names[i] for i in np.flatnonzero(counts == 1).tolist())
    if single and not (config.validation and config.test):
        raise DataError(
            f"{where}: {_listed(single)} with one text only{after} cannot be split; add rows, remove the "
            "class, or set data.validation and data.test"
        )


def check_splits(
    names: Sequence[str], codes: Codes, labels: Labels, label_names: Sequence[str], sources: Sequence[str]
) -> None:
    """Raise DataError when a split is empty, or an own validation or test source has a class that train lacks."""
    found_by_code = [set(np.flatnonzero(np.bincount(labels[codes == code])).tolist()) for code in range(len(names))]
    trained = found_by_code[TRAIN_CODE]
    for name, found in zip(names, found_by_code, strict=True):
        if not found:
            raise DataError(
                f"data: no row is left for the {name} split; give more rows of each class, or set data.{name}"
            )
        unknown = sorted(label_names[i] for i in found - trained)
        if unknown and name in (VALIDATION, TEST) and name in sources:
            raise DataError(
                f"data.{name}: {_listed(unknown)} not among the labels to train on; correct the labels or add rows"
            )


def _split_pool(verdicts: Verdicts, labels: Labels, config: DataConfig) -> Codes:
    codes = split(
        verdicts.ranks,
        labels,
        0 if config.validation else config.validation_fraction,
        0 if config.test else config.test_fraction,
    ).astype(np.int16)
    followers = np.fromiter(verdicts.followers, np.int64, len(verdicts.followers))
    codes[followers] = codes[np.fromiter(verdicts.followers.values(), np.int64, len(followers))]
    return codes


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"class {shown}" if len(names) == 1 else f"classes {shown}{more}"
