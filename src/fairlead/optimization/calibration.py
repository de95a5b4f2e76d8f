"""Probabilities that are frequencies, and texts that belong to no class.

Temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks"): logits are divided by the one number
under which the validation split is most probable. Answers stay what they are.

Rejection (Hendrycks and Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples"): a text
whose best probability is below a threshold is out of scope; the threshold keeps a stated share of the validation split.

Shapes: N rows, C classes.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.evaluation.metrics import calibration_error, log_softmax, reliability
from fairlead.formats.variants import CalibrationRecord, RejectionRecord

Array = npt.NDArray[Any]
# The temperature is searched between these: beyond, the rows are all right or say nothing.
COLDEST, HOTTEST = 0.05, 20.0
STEPS = 60
GOLDEN = (math.sqrt(5) - 1) / 2
# Fewer rows move a percentile, and the temperature, by more than they correct.
LEAST_ROWS = 100
BINS = 15


def best_temperature(logits_NC: Array, true_N: Array) -> float:
    """The temperature of the least negative log-likelihood, which has one minimum: golden-section search."""

    def loss(log_temperature: float) -> float:
        return log_loss(logits_NC / math.exp(log_temperature), true_N)

    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    # Six digits, so that the last bits of a sum are not the identity of a version.
    return float(f"{math.exp((low + high) / 2):.6g}")


def log_loss(logits_NC: Array, true_N: Array) -> float:
    """Mean negative log-likelihood, nats."""
    return float(-log_softmax(logits_NC)[np.arange(len(true_N)), true_N].mean())


def confidences(logits_NC: Array, temperature: float) -> Array:
    """The best probability of each row."""
    best: Array = np.exp(log_softmax(logits_NC / temperature)).max(axis=1)
    return best


def threshold_that_keeps(share: float, logits_NC: Array, temperature: float) -> float:
    """The greatest probability that at least `share` of the rows reach."""
    falling = np.sort(confidences(logits_NC, temperature))[::-1]
    # Rounded down: the row that it was taken from must stay above it.
    return math.floor(float(falling[math.ceil(share * len(falling)) - 1]) * 1e6) / 1e6


def describe_calibration(split: str, logits_NC: Array, true_N: Array, temperature: float) -> CalibrationRecord:
    """Both measures with and without the temperature."""
    before, after = (_error(logits_NC / t, true_N) for t in (1.0, temperature))
    return CalibrationRecord(
        split=split,
        num_rows=len(true_N),
        error_before=before,
        error_after=after,
        log_loss_before=log_loss(logits_NC, true_N),
        log_loss_after=log_loss(logits_NC / temperature, true_N),
    )


def describe_rejection(
    share: float, threshold: float, logits_NC: Array, true_N: Array, temperature: float
) -> RejectionRecord:
    """What the threshold does to labelled rows that did not choose it."""
    kept_N = confidences(logits_NC, temperature) >= threshold
    right_N = logits_NC.argmax(axis=1) == true_N
    return RejectionRecord(
        in_scope_share=share,
        kept_share=float(kept_N.mean()),
        accuracy_kept=float(right_N[kept_N].mean()) if kept_N.any() else 0.0,
        accuracy_rejected=None if kept_N.all() else float(right_N[~kept_N].mean()),
    )


def _error(logits_NC: Array, true_N: Array) -> float:
    return calibration_error(reliability(true_N, np.exp(log_softmax(logits_NC)), BINS))
