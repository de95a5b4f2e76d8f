"""Per-class thresholds of a multi-label model, from which probability on a text has a label.

Each is the one with the best F1 on the validation split (Lipton et al., 2014, "Optimal Thresholding of Classifiers
to Maximize F1 Measure"). That of a class with few positives would be an accident: such classes share one, the best
for the F1 over all pairs of row and class.

Shapes: N rows, C classes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

# An F1 from fewer positives moves by more than 0.1 with one of them.
LEAST_POSITIVES = 10


def best_thresholds_C(probabilities_NC: Floats, true_NC: Bools) -> list[float]:
    """A threshold between 0 and 1 for each class."""
    shared = best_threshold(probabilities_NC.ravel(), true_NC.ravel())
    positives_C = true_NC.sum(axis=0)
    return [
        best_threshold(probabilities_NC[:, c], true_NC[:, c]) if positives_C[c] >= LEAST_POSITIVES else shared
        for c in range(true_NC.shape[1])
    ]


def best_threshold(probability_N: Floats, true_N: Bools) -> float:
    """The threshold with the best F1, in the middle between two probabilities; 0.5 without positives."""
    if not true_N.any():
        return 0.5
    order = np.argsort(-probability_N, kind="stable")
    falling, hits = probability_N[order].astype(np.float64), np.cumsum(true_N[order])
    # 2 tp / (predicted + positives), when all down to a place are predicted; equal ones only together.
    f1 = 2 * hits / (np.arange(1, len(falling) + 1) + hits[-1])
    last_of_equals = np.append(falling[1:] < falling[:-1], True)
    best = int(np.where(last_of_equals, f1, -1.0).argmax())
    below = falling[best + 1] if best + 1 < len(falling) else 0.0
    return float((falling[best] + below) / 2)
