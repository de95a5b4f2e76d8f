"""How good a regression is, from its values.

Shapes: N rows.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.evaluation.mistakes import pick_texts

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Miss:
    """One text whose predicted number is far from its own."""

    index: int
    text: str
    target: float
    value: float


def measure_numbers(targets_N: Array, values_N: Array) -> dict[str, float]:
    """Measure values against the truth; N is at least 1.

    r2 is 1 - MSE / variance of the targets (Wright, 1921); it and the correlations (Pearson, 1895; Spearman, 1904,
    of ranks that equal values share) are left out where one side is constant.
    """
    targets_N, values_N = targets_N.astype(np.float64), values_N.astype(np.float64)
    error_N = values_N - targets_N
    mse, variance = float(np.square(error_N).mean()), float(targets_N.var())
    metrics = {"r2": 1 - mse / variance} if variance > 0 else {}
    if variance > 0 and values_N.var() > 0:
        metrics["pearson"] = float(np.corrcoef(values_N, targets_N)[0, 1])
        metrics["spearman"] = float(np.corrcoef(_ranks(values_N), _ranks(targets_N))[0, 1])
    return metrics | {"rmse": math.sqrt(mse), "mse": mse, "mae": float(np.abs(error_N).mean())}


def worst_misses(rows: Iterable[tuple[str, str]], targets_N: Array, values_N: Array, limit: int) -> list[Miss]:
    """At most `limit` rows, the greatest error first."""
    chosen = np.argsort(-np.abs(values_N - targets_N), kind="stable")[:limit].tolist()
    texts = pick_texts(rows, set(chosen))
    return [Miss(i, texts[i], float(targets_N[i]), float(values_N[i])) for i in chosen]


def _ranks(values_N: Array) -> Array:
    _, inverse_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[inverse_N]
    return ranks
