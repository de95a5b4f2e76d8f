"""What a validation reports, from the outputs of the model on every row. NumPy only.

Where a class of the data neither occurs nor was predicted it is left out of a mean over classes, as scikit-learn
has it. `tp`, `fp`, `fn` are a class's true positives, false positives and false negatives.

    F1 of a class       2 tp / (2 tp + fp + fn)                              van Rijsbergen, 1979
    macro_f1            mean of the classes' F1
    weighted_f1         the same, weighted by how often each class occurs
    micro_f1            2 TP / (2 TP + FP + FN), summed over classes; with one label a row this is accuracy
    mcc                 correlation of predicted and true classes, -1 to 1   Gorodkin, 2004
    calibration_error   sum over bins b of n_b / n * |accuracy_b - confidence_b|   Guo et al., 2017, eq. 5
    perplexity          exp(loss)
    average_precision   mean of the classes' areas under precision over recall, as steps

`loss` is the mean of the plain loss (without smoothing, class weights or focus), so that runs with other
objectives can be compared by it.

Shapes: N rows, C classes, K numbers a row.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]

# Of these less is better; of all others more is.
LOWER_IS_BETTER = frozenset(
    {"loss", "perplexity", "nats_per_character", "bits_per_byte", "calibration_error", "mse", "rmse", "mae"}
)
# As many as evaluation.calibration_bins has by default.
CALIBRATION_BINS = 15


def is_better(metric: str, value: float, best: float | None) -> bool:
    """Whether a validation improved on the best so far; ties do not, nor does what is not a number."""
    if best is None:
        return True
    return value < best if metric in LOWER_IS_BETTER else value > best


def classification_scores(
    predicted_N: Ints, confidence_N: Floats, labels_N: Ints, losses_N: Floats
) -> dict[str, float]:
    """The scores of a classifier whose rows have one label each.

    `confidence_N` is the probability of the predicted class, 0 to 1.
    """
    counts = class_counts(predicted_N, labels_N, 1 + int(max(predicted_N.max(), labels_N.max())))
    accuracy = float((predicted_N == labels_N).mean())
    return {
        "accuracy": accuracy,
        "micro_f1": accuracy,
        **_f1_averages(*counts),
        "mcc": multiclass_correlation(*counts, len(labels_N)),
        "calibration_error": calibration_error(confidence_N, predicted_N == labels_N),
        **_loss(losses_N),
    }


def multi_label_scores(
    probabilities_NC: Floats, targets_NC: Bools, losses_N: Floats, threshold: float = 0.5
) -> dict[str, float]:
    """The scores of a model whose rows have any number of labels; a class is predicted from `threshold` on.

    `accuracy` is the share of rows whose labels are all right; `mcc` and `calibration_error` are taken over all
    pairs of row and class.
    """
    predicted_NC, true_NC = probabilities_NC >= threshold, targets_NC.astype(bool)
    tp_C = (predicted_NC & true_NC).sum(axis=0)
    totals = np.array([tp_C.sum(), predicted_NC.sum(), true_NC.sum()])
    confidence_NC = np.maximum(probabilities_NC, 1 - probabilities_NC)
    return {
        "accuracy": float((predicted_NC == true_NC).all(axis=1).mean()),
        # Nothing predicted where nothing was: there is no error, but no success either.
        "micro_f1": float(2 * totals[0] / max(1, totals[1] + totals[2])),
        **_f1_averages(tp_C, predicted_NC.sum(axis=0), true_NC.sum(axis=0)),
        "mcc": binary_correlation(predicted_NC.ravel(), true_NC.ravel()),
        "calibration_error": calibration_error(confidence_NC.ravel(), ((probabilities_NC >= 0.5) == true_NC).ravel()),
        "loss": float(losses_N.mean()),
    }


def mean_average_precision(probabilities_NC: Floats, true_NC: Bools) -> float:
    """Mean over the classes that occur of the average precision of each; 0 when none does."""
    present = np.flatnonzero(true_NC.any(axis=0)).tolist()
    found = [average_precision(probabilities_NC[:, c], true_NC[:, c]) for c in present]
    return sum(found) / len(found) if found else 0.0


def average_precision(probability_N: Floats, true_N: Bools) -> float:
    """Sum over thresholds of precision times the gain in recall; equal probabilities are one threshold.

    The definition of scikit-learn's `average_precision_score`; at least one row is true.
    """
    order = np.argsort(-probability_N, kind="stable")
    falling, hits = probability_N[order], np.cumsum(true_N[order])
    ends = np.flatnonzero(np.append(falling[1:] < falling[:-1], True))
    gains = np.diff(hits[ends], prepend=0)
    return float((hits[ends] / (ends + 1) * gains).sum() / hits[-1])


def regression_scores(values_N: Floats, targets_N: Floats, losses_N: Floats) -> dict[str, float]:
    """The scores of numbers: errors, explained share of the variance, and two correlations.

    A correlation with something constant, and `r2` of constant targets, is not defined and given as 0.
    """
    values_N, targets_N = values_N.astype(np.float64), targets_N.astype(np.float64)
    error_N = values_N - targets_N
    mse, variance = float(np.square(error_N).mean()), float(targets_N.var())
    return {
        "mse": mse,
        "rmse": math.sqrt(mse),
        "mae": float(np.abs(error_N).mean()),
        "r2": 1 - mse / variance if variance else 0.0,
        "pearson": correlation(values_N, targets_N),
        "spearman": correlation(ranks(values_N), ranks(targets_N)),
        "loss": float(losses_N.mean()),
    }


def class_counts(predicted_N: Ints, labels_N: Ints, num_classes: int) -> tuple[Ints, Ints, Ints]:
    """True positives, predictions and occurrences of each class, each of shape (C,)."""
    hits = np.bincount(labels_N[predicted_N == labels_N], minlength=num_classes)
    predicted = np.bincount(predicted_N, minlength=num_classes)
    return hits, predicted, np.bincount(labels_N, minlength=num_classes)


def multiclass_correlation(tp_C: Ints, predicted_C: Ints, true_C: Ints, num_rows: int) -> float:
    """Matthews' correlation for C classes: (s c - p.t) / sqrt((s^2 - p.p) (s^2 - t.t)); 0 where not defined.

    s rows, c of them right, p and t predictions and occurrences of each class (Gorodkin, 2004). Python's
    integers, since the products of a million rows leave 64 bits.
    """
    p, t = [int(n) for n in predicted_C], [int(n) for n in true_C]
    right = int(tp_C.sum())
    over = num_rows * right - sum(a * b for a, b in zip(p, t, strict=True))
    under = (num_rows**2 - sum(n * n for n in p)) * (num_rows**2 - sum(n * n for n in t))
    return over / math.sqrt(under) if under else 0.0


def binary_correlation(predicted_N: Bools, true_N: Bools) -> float:
    """Matthews' correlation of two classes (Matthews, 1975); 0 where one side is constant."""
    counts = class_counts(predicted_N.astype(np.int64), true_N.astype(np.int64), 2)
    return multiclass_correlation(*counts, len(true_N))


def calibration_error(confidence_N: Floats, right_N: Bools, num_bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error over bins (low, high] of equal width of the confidence, 0 to 1."""
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, num_bins - 1)
    confidence = np.bincount(bin_N, weights=confidence_N, minlength=num_bins)
    right = np.bincount(bin_N, weights=right_N, minlength=num_bins)
    return float(np.abs(right - confidence).sum() / len(confidence_N))


def correlation(a_N: Floats, b_N: Floats) -> float:
    """Pearson's correlation, -1 to 1; 0 when one side is constant."""
    a_N, b_N = a_N - a_N.mean(), b_N - b_N.mean()
    under = math.sqrt(float((a_N * a_N).sum()) * float((b_N * b_N).sum()))
    return float((a_N * b_N).sum()) / under if under else 0.0


def ranks(values_N: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs (Spearman, 1904)."""
    _, inverse_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Floats = (last - (counts - 1) / 2)[inverse_N]
    return shared


def _f1_averages(tp_C: Ints, predicted_C: Ints, true_C: Ints) -> Mapping[str, float]:
    # 2 tp + fp + fn is the count among labels plus the count among predictions.
    seen_C = predicted_C + true_C
    present, f1_C = seen_C > 0, 2 * tp_C / np.maximum(seen_C, 1)
    return {
        "macro_f1": float(f1_C[present].mean()) if present.any() else 0.0,
        "weighted_f1": float((f1_C * true_C).sum() / max(1, int(true_C.sum()))),
    }


def _loss(losses_N: Floats) -> dict[str, float]:
    loss = float(losses_N.mean())
    # exp overflows float64 beyond 709; a loss there is a diverged run.
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
