"""How much worse a variant may be than the reference: the upper bound of the drop, at a one-sided confidence.

Both answered the same rows, so that rows which both get right, or both wrong, say nothing.

    accuracy          score interval for the difference of paired proportions: Tango 1998, "Equivalence test and
                      confidence interval for the difference in proportions for the paired-sample design",
                      Statistics in Medicine 17(8)
    micro F1, r2      paired bootstrap, percentiles: Efron and Tibshirani 1993, "An Introduction to the Bootstrap",
                      chapter 13

A variant whose bound is within the margin is not inferior at that confidence. Shapes: N rows, C classes.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
PAIRED_PROPORTIONS = "score interval for paired proportions (Tango 1998), one-sided"
PAIRED_BOOTSTRAP = "paired bootstrap (Efron and Tibshirani 1993), one-sided, 2,000 samples"
SAMPLES = 2000
# Rows of weights in memory at once.
CHUNK = 100
BISECTIONS = 60


def worst_drop_of_accuracy(right_N: Array, reference_right_N: Array, confidence: float) -> float:
    """Upper bound of the share of right answers that is lost, -1 to 1."""
    lost = int((reference_right_N & ~right_N).sum())
    gained = int((right_N & ~reference_right_N).sum())
    z = NormalDist().inv_cdf(confidence)
    low, high = (lost - gained) / len(right_N), 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _score(lost, gained, len(right_N), middle) > -z:
            low = middle
        else:
            high = middle
    return high


def _score(lost: int, gained: int, rows: int, drop: float) -> float:
    """Tango's statistic for the hypothesis that the true drop is `drop`; it falls with it."""
    b = (2 * rows - lost + gained) * drop - lost - gained
    share = (math.sqrt(max(0.0, b * b + 8 * rows * gained * drop * (1 - drop))) - b) / (4 * rows)
    variance = rows * (2 * share + drop * (1 - drop))
    difference = lost - gained - rows * drop
    return difference / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, difference)


def rows_needed(margin: float, confidence: float) -> float:
    """Rows below which not even equal answers on all of them show that accuracy drops by at most `margin`."""
    z = NormalDist().inv_cdf(confidence)
    return math.ceil(z * z * (1 - margin) / margin) if margin > 0 else math.inf


def worst_drop_of_micro_f1(true_NC: Array, said_NC: Array, reference_NC: Array, confidence: float) -> float:
    """Upper bound of the micro F1 that is lost, from boolean sets of labels."""

    def sums(said: Array) -> Array:
        return np.stack([(true_NC & said).sum(axis=1), said.sum(axis=1) + true_NC.sum(axis=1)]).astype(np.float64)

    def f1(totals: Array) -> Array:
        hits, both = totals
        scores: Array = np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)
        return scores

    return _bootstrap(sums(said_NC), sums(reference_NC), f1, confidence)


def worst_drop_of_r2(true_N: Array, said_N: Array, reference_N: Array, confidence: float) -> float:
    """Upper bound of the r2 that is lost."""

    def sums(said: Array) -> Array:
        return np.stack([np.square(true_N - said), true_N, np.square(true_N), np.ones(len(true_N))])

    def r2(totals: Array) -> Array:
        error, total, squares, rows = totals
        scores: Array = 1 - error / np.maximum(squares - np.square(total) / rows, 1e-12)
        return scores

    return _bootstrap(sums(said_N.astype(np.float64)), sums(reference_N.astype(np.float64)), r2, confidence)


def _bootstrap(ours: Array, theirs: Array, metric: Callable[[Array], Array], confidence: float) -> float:
    """Percentile of the drop over samples of rows; both are sums of a row, shape (sums, N)."""
    generator, rows = np.random.default_rng(0), ours.shape[1]
    drops = []
    for _ in range(SAMPLES // CHUNK):
        weights = generator.multinomial(rows, np.full(rows, 1 / rows), CHUNK).T.astype(np.float64)
        drops.append(metric(theirs @ weights) - metric(ours @ weights))
    return float(np.quantile(np.concatenate(drops), confidence))
