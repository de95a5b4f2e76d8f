"""How good a multi-label classifier is, from its logits: each class has a sigmoid and a threshold of its own.

Shapes: N rows, C classes. `targets_NC` holds 0 and 1.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from fairlead.evaluation.metrics import Bin, calibration_error, correlation, reliability
from fairlead.evaluation.mistakes import pick_texts
from fairlead.formats.evaluation import ClassScores

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SetScores:
    """Everything measured on one data set."""

    metrics: dict[str, float]
    per_class: dict[str, ClassScores]
    bins: list[Bin]
    """Over all pairs of row and class, by how sure the model is of present or absent."""


@dataclass(frozen=True)
class SetMistake:
    """One text whose predicted labels are not its own."""

    index: int
    text: str
    missed: list[str]
    """Labels it has, with their probabilities too low."""
    wrong: list[str]
    """Labels it lacks, with their probabilities too high."""
    loss: float
    """Mean binary cross-entropy over the classes."""


def measure_sets(
    labels: list[str], targets_NC: Array, logits_NC: Array, thresholds: Sequence[float], num_bins: int
) -> SetScores:
    """Measure predictions against the truth; N and C are at least 1.

    `accuracy`-like scores: subset_accuracy is the share of rows whose labels are all right, hamming_loss the share
    of wrong pairs of row and class, mcc Matthews' correlation over all these pairs. F1s and average precision leave
    out classes that neither occur nor were predicted.
    """
    true_NC = targets_NC.astype(np.bool_)
    probabilities_NC = sigmoid(logits_NC)
    predicted_NC = probabilities_NC >= np.asarray(thresholds)
    per_class = _class_scores(labels, true_NC, predicted_NC, probabilities_NC)
    bins = reliability(true_NC.ravel().astype(np.int64), _two_columns(probabilities_NC), num_bins)
    metrics = {
        "subset_accuracy": float((predicted_NC == true_NC).all(axis=1).mean()),
        **_averages(true_NC, predicted_NC, per_class),
        "mcc": correlation(true_NC.ravel(), predicted_NC.ravel()),
        "hamming_loss": float((predicted_NC != true_NC).mean()),
        "log_loss": float(losses_NC(targets_NC, logits_NC).mean()),
        "calibration_error": calibration_error(bins),
    }
    return SetScores(metrics, per_class, bins)


def predicted_sets(labels: list[str], logits_NC: Array, thresholds: Sequence[float]) -> list[str]:
    """What the model says of each row, as a JSON list of labels."""
    predicted_NC = sigmoid(logits_NC) >= np.asarray(thresholds)
    return [json.dumps([labels[i] for i in np.flatnonzero(row)], ensure_ascii=False) for row in predicted_NC]


def worst_sets(
    rows: Iterable[tuple[str, str]],
    labels: list[str],
    targets_NC: Array,
    known_N: npt.NDArray[np.bool_],
    logits_NC: Array,
    thresholds: Sequence[float],
    limit: int,
) -> list[SetMistake]:
    """At most `limit` rows with a wrong set of labels, the greatest loss first."""
    probabilities_NC = sigmoid(logits_NC)
    predicted_NC, true_NC = probabilities_NC >= np.asarray(thresholds), targets_NC == 1
    loss_N = losses_NC(true_NC, logits_NC).mean(axis=1)
    wrong = np.flatnonzero((predicted_NC != true_NC).any(axis=1) & known_N)
    chosen = wrong[np.argsort(-loss_N[wrong], kind="stable")][:limit].tolist()
    texts = pick_texts(rows, set(chosen))

    def named(row: int, where_C: npt.NDArray[np.bool_]) -> list[str]:
        return [f"{labels[c]} {probabilities_NC[row, c]:.2f}" for c in np.flatnonzero(where_C)]

    return [
        SetMistake(
            index=i,
            text=texts[i],
            missed=named(i, true_NC[i] & ~predicted_NC[i]),
            wrong=named(i, predicted_NC[i] & ~true_NC[i]),
            loss=float(loss_N[i]),
        )
        for i in chosen
    ]


def sigmoid(logits_NC: Array) -> npt.NDArray[np.float64]:
    """Probabilities, in float64."""
    return 1 / (1 + np.exp(-np.clip(logits_NC.astype(np.float64), -700, 700)))


def losses_NC(targets_NC: Array, logits_NC: Array) -> npt.NDArray[np.float64]:
    """Binary cross-entropy of each pair: log(1 + e^z) - t z, exact where a probability itself would be 0 or 1."""
    z_NC = logits_NC.astype(np.float64)
    found: npt.NDArray[np.float64] = np.logaddexp(0.0, z_NC) - targets_NC * z_NC
    return found


def _class_scores(labels: list[str], true_NC: Array, predicted_NC: Array, probabilities_NC: Array) -> dict[str, Any]:
    tp_C = (true_NC & predicted_NC).sum(axis=0)
    predicted_C, support_C = predicted_NC.sum(axis=0), true_NC.sum(axis=0)
    return {
        label: ClassScores(
            precision=float(tp_C[c] / max(1, predicted_C[c])),
            recall=float(tp_C[c] / max(1, support_C[c])),
            f1=float(2 * tp_C[c] / max(1, predicted_C[c] + support_C[c])),
            support=int(support_C[c]),
            average_precision=_average_precision(true_NC[:, c], probabilities_NC[:, c]),
        )
        for c, label in enumerate(labels)
    }


def _average_precision(true_N: Array, probability_N: Array) -> float | None:
    return float(average_precision_score(true_N, probability_N)) if true_N.any() else None


def _averages(true_NC: Array, predicted_NC: Array, per_class: dict[str, ClassScores]) -> dict[str, float]:
    scores, seen_C = list(per_class.values()), (true_NC | predicted_NC).any(axis=0)
    found: dict[str, float] = {}
    if seen_C.any():
        found["macro_f1"] = sum(scores[c].f1 for c in np.flatnonzero(seen_C)) / int(seen_C.sum())
        found["micro_f1"] = float(2 * (true_NC & predicted_NC).sum() / (true_NC.sum() + predicted_NC.sum()))
    support = sum(score.support for score in scores)
    if support:
        found["weighted_f1"] = sum(score.f1 * score.support for score in scores) / support
        precisions = [score.average_precision for score in scores if score.average_precision is not None]
        found["average_precision"] = sum(precisions) / len(precisions)
    return found


def _two_columns(probabilities_NC: Array) -> npt.NDArray[np.float64]:
    flat = probabilities_NC.ravel()
    return np.stack([1 - flat, flat], axis=1)
