"""How much each class weighs in the loss, from how often it occurs in the training split.

All weights are scaled so that their mean over the training rows is 1: what counts is how classes compare, and
the size of the loss, and with it the learning rate and the gradient's limit, stays what it was.

Shapes: C classes.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from fairlead.errors import ConfigError

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

ByHand = Mapping[str, float]


def class_weights_C(
    how: Literal["balanced", "effective_number"] | ByHand, names: Sequence[str], counts_C: Counts, beta: float = 0.999
) -> Floats:
    """The weights of classes `names` that occur `counts_C` times; a class without rows weighs nothing.

    `beta` is for `effective_number`. Raises ConfigError when weights by hand miss a class or name an unknown one.
    """
    if how == "balanced":
        raw_C = balanced_C(counts_C)
    elif how == "effective_number":
        raw_C = effective_number_C(counts_C, beta)
    else:
        raw_C = by_hand_C("training.class_weights", how, names)
    weights_C = np.where(counts_C > 0, raw_C, 0.0)
    scaled_C: Floats = weights_C * (counts_C.sum() / (weights_C * counts_C).sum())
    return scaled_C


def balanced_C(counts_C: Counts) -> Floats:
    """n / (C * n_c): every class weighs the same in all (King and Zeng, 2001; scikit-learn's `balanced`)."""
    present = counts_C > 0
    return np.where(present, counts_C.sum() / (present.sum() * np.maximum(counts_C, 1)), 0.0)


def effective_number_C(counts_C: Counts, beta: float) -> Floats:
    """(1 - beta) / (1 - beta^n_c): one over the effective number of samples.

    Cui et al., 2019, "Class-Balanced Loss Based on Effective Number of Samples", eq. 4. beta 0 weighs all
    classes alike; towards 1 it becomes `balanced`. Beyond about 1 / (1 - beta) rows a class counts as full.
    """
    if beta == 0.0:
        return np.ones(len(counts_C))
    # As expm1, since for a small class 1 - beta^n loses its digits when beta is nearly 1.
    return np.where(counts_C > 0, (1 - beta) / -np.expm1(np.maximum(counts_C, 1) * np.log(beta)), 0.0)


def positive_weights_C(
    how: Literal["balanced"] | ByHand, names: Sequence[str], positives_C: Counts, num_rows: int
) -> Floats:
    """What a positive of each class weighs in a binary loss, where a negative weighs 1.

    `balanced` is negatives / positives of the class, 1 for a class without positives. Classes not named by
    hand weigh 1. Raises ConfigError for an unknown class.
    """
    if how == "balanced":
        return np.where(positives_C > 0, (num_rows - positives_C) / np.maximum(positives_C, 1), 1.0)
    where = "training.positive_weights"
    return by_hand_C(where, dict.fromkeys(names, 1.0) | _known(where, how, names), names)


def by_hand_C(where: str, weights: ByHand, names: Sequence[str]) -> Floats:
    """The weights in the order of `names`. Raises ConfigError when a class is unknown or has none."""
    _known(where, weights, names)
    missing = [name for name in names if name not in weights]
    if missing:
        raise ConfigError(f"{where}: the class {missing[0]!r} has no weight; give one for each of {_list(names)}")
    return np.array([weights[name] for name in names], dtype=np.float64)


def _known(where: str, weights: ByHand, names: Sequence[str]) -> dict[str, float]:
    for name in weights:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}" if near else f"there are {_list(names)}"
            raise ConfigError(f"{where}: there is no class {name!r}; {hint}")
    return dict(weights)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
