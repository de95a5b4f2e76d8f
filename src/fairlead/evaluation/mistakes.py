"""The mistakes that a model was surest of: the fastest way to find wrong labels and missing classes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_CHARACTERS = 500


@dataclass(frozen=True)
class Mistake:
    """One text whose predicted label is not its own."""

    index: int
    text: str
    """At most 500 characters of it."""
    label: str
    predicted: str
    probability: float
    """Of the predicted label."""
    label_probability: float
    """Of the true label."""


def worst_mistakes(
    rows: Iterable[tuple[str, str]],
    labels: list[str],
    true_N: npt.NDArray[Any],
    probabilities_NC: npt.NDArray[Any],
    limit: int,
) -> list[Mistake]:
    """At most `limit` mistakes, the surest first; rows with labels unknown to the model (id -1) are none."""
    predicted_N, probability_N = probabilities_NC.argmax(axis=1), probabilities_NC.max(axis=1)
    wrong = np.flatnonzero((predicted_N != true_N) & (true_N >= 0))
    chosen = wrong[np.argsort(-probability_N[wrong], kind="stable")][:limit].tolist()
    texts = pick_texts(rows, set(chosen))
    return [
        Mistake(
            index=i,
            text=texts[i],
            label=labels[true_N[i]],
            predicted=labels[predicted_N[i]],
            probability=float(probability_N[i]),
            label_probability=float(probabilities_NC[i, true_N[i]]),
        )
        for i in chosen
    ]


def pick_texts(rows: Iterable[tuple[str, str]], indices: set[int]) -> dict[int, str]:
    """The beginnings of the texts with these indices."""
    if not indices:
        return {}
    last = max(indices)
    found = {}
    for i, (text, _) in enumerate(rows):
        if i in indices:
            found[i] = text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + " …"
        if i == last:
            break
    return found
