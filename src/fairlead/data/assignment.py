"""Which split every row goes to, once it is known which rows are kept."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fairlead.data.cleaning import KEPT, SEEN, Verdicts
from fairlead.data.config import DataConfig
from fairlead.data.labels import ClassNames, Labels
from fairlead.data.splitting import TEST_CODE, TRAIN_CODE, split
from fairlead.errors import DataError
from fairlead.formats.dataset import TEST, TRAIN, VALIDATION, SplitSummary
from fairlead.names import MULTI_LABEL, REGRESSION, TaskName

DROPPED = -1
NAMES_SHOWN = 10

Codes = npt.NDArray[np.int16]
Counts = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]


def assign(
    sources: Sequence[str],
    ends: Sequence[int],
    verdicts: Verdicts,
    ids: Ids,
    labels: Labels,
    config: DataConfig,
    split_of: Mapping[str, str] | None = None,
    held_out: str = TEST,
) -> tuple[list[str], Codes]:
    """The splits' names, and for every row the index of its split or DROPPED.

    `sources` are the names of the sources, the pool to train on first; `ends[i]` is the row after
    the last of source i. A source fills the split of its name, or the one that `split_of` gives;
    what is split off the pool to measure on goes to `held_out`, which is left out when it stays empty.
    `ids` are those that `labels` gave the rows' labels.
    """
    filled = [(split_of or {}).get(name, name) for name in sources]
    # In the order of the codes that a split of the pool gives.
    names = [TRAIN, VALIDATION, TEST]
    names += dict.fromkeys(name for name in filled if name not in (*names, held_out))
    names += [held_out] if held_out not in names else []
    codes = np.full(ends[-1], DROPPED, np.int16)
    pool = _split_pool(verdicts, ids[: ends[0]], labels, config)
    codes[: ends[0]] = np.where(pool == TEST_CODE, names.index(held_out), pool)
    for i, name in enumerate(filled[1:], 1):
        codes[ends[i - 1] : ends[i]] = names.index(name)
    codes[~np.isin(verdicts.fates, KEPT)] = DROPPED
    if held_out != TEST and not (codes == names.index(held_out)).any():
        names.pop()
    return names, codes


def check_pool(verdicts: Verdicts, labels: Labels, config: DataConfig, where: str) -> None:
    """Raise DataError when no row of the pool is kept, or its rows have one class only or one that cannot be split.

    A pool that continues a parent may hold few rows of few classes: it is checked by kept_labels alone.
    """
    counts = verdicts.ranks.counts
    after = "" if np.isin(verdicts.fates, KEPT).all() else " after duplicates, conflicts and leaks were dropped"
    if not counts.any():
        raise DataError(f"{where}: no row is left to train on{after}; change data.duplicates, conflicts or leakage")
    if isinstance(labels, ClassNames):
        _check_classes(counts, labels.names, config, where, after)


def _check_classes(counts: Counts, names: Sequence[str], config: DataConfig, where: str, after: str) -> None:
    present = [names[i] for i in np.flatnonzero(counts).tolist()]
    if len(present) == 1:
        raise DataError(
            f"{where}: every row has the label {present[0]!r}{after}; "
            "give rows of at least two classes, or set data.label"
        )
    single = sorted(names[i] for i in np.flatnonzero(counts == 1).tolist())
    if single and not (config.validation and config.test):
        raise DataError(
            f"{where}: {listed(single)} with one text only{after} cannot be split; add rows, remove the "
            "class, or set data.validation and data.test"
        )


def kept_labels(verdicts: Verdicts, ids: Ids, labels: Labels, num_rows: int, where: str) -> list[str]:
    """The labels of the kept rows among the first `num_rows`, the pool. Raises DataError when none is kept."""
    kept = np.isin(verdicts.fates[:num_rows], KEPT)
    if not kept.any():
        raise DataError(
            f"{where}: no row is left to train on after duplicates, conflicts and leaks into the test set were "
            "dropped; give new rows"
        )
    return sorted(labels.classes(ids[:num_rows][kept]))


def check_splits(
    names: Sequence[str],
    codes: Codes,
    ids: Ids,
    labels: Labels,
    sources: Sequence[str],
    known: Sequence[str] = (),
) -> None:
    """Raise DataError when a split is empty, or an own validation or test source has a class that train lacks.

    `known` are classes that a parent was trained on.
    """
    ids_by_code = [ids[codes == code] for code in range(len(names))]
    trained = labels.classes(ids_by_code[TRAIN_CODE]) | set(known)
    for name, found in zip(names, ids_by_code, strict=True):
        if not len(found):
            raise DataError(
                f"data: no row is left for the {name} split; give more rows of each class, or set data.{name}"
            )
        unknown = sorted(labels.classes(found) - trained)
        if unknown and name in (VALIDATION, TEST) and name in sources:
            raise DataError(
                f"data.{name}: {listed(unknown)} not among the labels to train on; correct the labels or add rows"
            )


def check_train(train: SplitSummary, task: TaskName, where: str) -> None:
    """Raise DataError when the training rows all have the same number, or no label among them."""
    if task == REGRESSION and train.numbers["min"] == train.numbers["max"]:
        raise DataError(
            f"{where}: every row to train on has the number {train.numbers['min']:g}; give rows with different "
            "numbers, or set data.label"
        )
    if task == MULTI_LABEL and not train.label_counts:
        raise DataError(f"{where}: no row to train on has a label; give rows with labels, or set data.label")


def _split_pool(verdicts: Verdicts, ids: Ids, labels: Labels, config: DataConfig) -> Codes:
    codes = split(
        verdicts.ranks,
        labels.strata(ids),
        0 if config.validation else config.validation_fraction,
        0 if config.test else config.test_fraction,
    ).astype(np.int16)
    codes[verdicts.fates[: len(codes)] == SEEN] = TRAIN_CODE
    followers = np.fromiter(verdicts.followers, np.int64, len(verdicts.followers))
    followed = np.fromiter(verdicts.followers.values(), np.int64, len(followers))
    codes[followers] = codes[followed]
    codes[~np.isin(verdicts.fates[: len(codes)], KEPT)] = DROPPED
    labels.keep_trainable(codes, ids, TRAIN_CODE)
    codes[followers] = codes[followed]
    return codes


def listed(names: Sequence[str]) -> str:
    """Classes in a sentence, at most ten of them: `class 'a'`, `classes 'a', 'b'`."""
    shown = ", ".join(repr(name) for name in names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"class {shown}" if len(names) == 1 else f"classes {shown}{more}"
