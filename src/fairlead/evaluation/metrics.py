"""How good a classifier is on labelled rows, from its logits.

Shapes: N rows, C classes. `true_N` holds class ids; logits are raw scores before the softmax.
What a data set does not define (ROC with one class present) is left out, never NaN.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    matthews_corrcoef,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from fairlead.formats.evaluation import ClassScores

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Bin:
    """The rows whose confidence lies in (low, high]."""

    low: float
    high: float
    num_rows: int
    confidence: float
    """Mean probability of the predicted class; 0 in an empty bin."""
    accuracy: float
    """Share predicted right; 0 in an empty bin."""


@dataclass(frozen=True)
class Curves:
    """ROC and precision-recall of the positive class, the rarer of two."""

    positive: str
    fpr: list[float]
    tpr: list[float]
    thresholds: list[float]
    """Least probability that counts as positive at each point of the ROC; finite, 1 at (0, 0)."""
    precision: list[float]
    recall: list[float]


@dataclass(frozen=True)
class Scores:
    """Everything measured on one data set."""

    metrics: dict[str, float]
    per_class: dict[str, ClassScores]
    confusion: list[list[int]]
    bins: list[Bin]
    curves: Curves | None


def measure(labels: list[str], true_N: Ints, logits_NC: Floats, num_bins: int, positive: int | None = None) -> Scores:
    """Measure predictions against the truth; N is at least 1.

    `positive` is the class id that the two-class metrics are about, needed when there are two.
    """
    log_probabilities_NC = log_softmax(logits_NC)
    probabilities_NC = np.exp(log_probabilities_NC)
    predicted_N = probabilities_NC.argmax(axis=1)
    per_class = class_scores(labels, true_N, predicted_N)
    bins = reliability(true_N, probabilities_NC, num_bins)
    metrics = {
        "accuracy": float((predicted_N == true_N).mean()),
        **averages(per_class, set(predicted_N.tolist()) | set(true_N.tolist())),
        "mcc": correlation(true_N, predicted_N),
        "log_loss": float(-log_probabilities_NC[np.arange(len(true_N)), true_N].mean()),
        "calibration_error": calibration_error(bins),
    }
    curves = None
    if len(labels) == 2 and positive is not None:
        metrics["f1"] = per_class[labels[positive]].f1
        if len(set(true_N.tolist())) == 2:
            is_positive_N, probability_N = true_N == positive, probabilities_NC[:, positive]
            metrics["roc_auc"] = float(roc_auc_score(is_positive_N, probability_N))
            metrics["average_precision"] = float(average_precision_score(is_positive_N, probability_N))
            curves = two_class_curves(labels[positive], is_positive_N, probability_N)
    matrix = confusion_matrix(true_N, predicted_N, labels=range(len(labels)))
    return Scores(metrics, per_class, matrix.tolist(), bins, curves)


def log_softmax(logits_NC: Floats) -> Floats:
    """Logarithms of the probabilities, in float64: exact where a probability itself would be 0."""
    shifted_NC = logits_NC.astype(np.float64) - logits_NC.max(axis=1, keepdims=True)
    result: Floats = shifted_NC - np.log(np.exp(shifted_NC).sum(axis=1, keepdims=True))
    return result


def class_scores(labels: list[str], true_N: Ints, predicted_N: Ints) -> dict[str, ClassScores]:
    """Precision, recall and F1 of each class; 0 where a class was never predicted or never there."""
    columns = precision_recall_fscore_support(true_N, predicted_N, labels=range(len(labels)), zero_division=0.0)
    return {
        label: ClassScores(precision=float(p), recall=float(r), f1=float(f), support=int(n))
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    }


def averages(per_class: dict[str, ClassScores], seen: set[int]) -> dict[str, float]:
    """Mean F1 over classes (macro), and weighted by support.

    The mean goes over the classes that were present or predicted, as scikit-learn's `f1_score` has
    it: a further data set may hold a few of many classes.
    """
    scores = list(per_class.values())
    support = sum(score.support for score in scores)
    return {
        "macro_f1": sum(scores[i].f1 for i in seen) / len(seen),
        "weighted_f1": sum(score.f1 * score.support for score in scores) / support,
    }


def correlation(true_N: npt.NDArray[Any], predicted_N: npt.NDArray[Any]) -> float:
    """Matthews' correlation, -1 to 1, one number over all classes (Gorodkin, 2004, R_K), as scikit-learn has it.

    (s c - p.t) / sqrt((s^2 - p.p) (s^2 - t.t)) of s rows, c of them right, p and t predictions and occurrences of
    each class; 0 where one side is constant.
    """
    constant = (true_N == true_N[0]).all() or (predicted_N == predicted_N[0]).all()
    return 0.0 if constant else float(matthews_corrcoef(true_N, predicted_N))


def reliability(true_N: Ints, probabilities_NC: Floats, num_bins: int) -> list[Bin]:
    """Rows by the confidence of their prediction, in bins of equal width (DeGroot and Fienberg, 1983)."""
    confidence_N = probabilities_NC.max(axis=1)
    right_N = probabilities_NC.argmax(axis=1) == true_N
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(bin_N, minlength=num_bins)
    filled = np.maximum(counts, 1)
    confidences = np.bincount(bin_N, weights=confidence_N, minlength=num_bins) / filled
    accuracies = np.bincount(bin_N, weights=right_N, minlength=num_bins) / filled
    rows = zip(edges[:-1], edges[1:], counts, confidences, accuracies, strict=True)
    return [Bin(float(low), float(high), int(n), float(c), float(a)) for low, high, n, c, a in rows]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: sum over bins of n_b / N * |accuracy_b - confidence_b| (Guo et al., 2017, eq. 5)."""
    total = sum(b.num_rows for b in bins)
    return sum(b.num_rows * abs(b.accuracy - b.confidence) for b in bins) / total


def two_class_curves(positive: str, is_positive_N: npt.NDArray[np.bool_], probability_N: Floats) -> Curves:
    """ROC and precision-recall points; both classes have to be present."""
    fpr, tpr, thresholds = roc_curve(is_positive_N, probability_N)
    precision, recall, _ = precision_recall_curve(is_positive_N, probability_N)
    return Curves(
        positive=positive,
        fpr=fpr.tolist(),
        tpr=tpr.tolist(),
        # scikit-learn begins with infinity, which JSON cannot say; no probability is above 1.
        thresholds=np.minimum(thresholds, 1.0).tolist(),
        precision=precision.tolist(),
        recall=recall.tolist(),
    )
