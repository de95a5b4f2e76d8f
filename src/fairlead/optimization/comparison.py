"""A variant's answers beside the reference's on the same rows: what changed, and what it may have lost, by task.

Shapes: N rows, C outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.evaluation.judges import JUDGES, Terms
from fairlead.evaluation.sets import sigmoid
from fairlead.names import CLASSIFICATION, MULTI_LABEL, REGRESSION, TaskName
from fairlead.optimization import significance

Array = npt.NDArray[Any]
# Of the targets' standard deviation: a number that moves by less is the same answer.
SAME_NUMBER = 0.01


@dataclass(frozen=True)
class Comparison:
    """What a variant's outputs mean beside the reference's."""

    metrics: dict[str, float]
    changed_share: float
    max_difference: float
    drop: float
    worst_drop: float


@dataclass(frozen=True)
class Rule:
    """How a task compares."""

    metric: str
    test: str
    changed: Callable[[Terms, Array, Array, Array], Array]
    """Rows whose answer differs, from targets and two outputs."""
    worst_drop: Callable[[Terms, Array, Array, Array, float], float]
    """From targets, outputs, the reference's and the confidence."""


def compare(task: TaskName, terms: Terms, targets: Array, ours_NC: Array, theirs_NC: Array, level: float) -> Comparison:
    """Measure `ours_NC` and hold it against the reference `theirs_NC` at the confidence `level`."""
    rule, measure = RULES[task], JUDGES[task].measure
    metrics, reference = (measure(terms, targets, outputs).metrics for outputs in (ours_NC, theirs_NC))
    # Defined for both or for neither: r2 needs targets that differ.
    drop = reference.get(rule.metric, 0.0) - metrics.get(rule.metric, 0.0)
    return Comparison(
        metrics=metrics,
        changed_share=float(rule.changed(terms, targets, ours_NC, theirs_NC).mean()),
        max_difference=float(np.abs(ours_NC - theirs_NC).max()),
        drop=drop,
        worst_drop=rule.worst_drop(terms, targets, ours_NC, theirs_NC, level),
    )


def _sets(terms: Terms, logits_NC: Array) -> Array:
    said: Array = sigmoid(logits_NC) >= np.asarray(terms.thresholds)
    return said


def _changed_class(terms: Terms, targets_N: Array, ours_NC: Array, theirs_NC: Array) -> Array:
    changed: Array = ours_NC.argmax(axis=1) != theirs_NC.argmax(axis=1)
    return changed


def _changed_set(terms: Terms, targets_NC: Array, ours_NC: Array, theirs_NC: Array) -> Array:
    changed: Array = (_sets(terms, ours_NC) != _sets(terms, theirs_NC)).any(axis=1)
    return changed


def _changed_number(terms: Terms, targets_N: Array, ours_N1: Array, theirs_N1: Array) -> Array:
    changed: Array = np.abs(ours_N1 - theirs_N1)[:, 0] > SAME_NUMBER * targets_N.std()
    return changed


def _worst_accuracy(terms: Terms, targets_N: Array, ours_NC: Array, theirs_NC: Array, level: float) -> float:
    right_N, reference_N = (outputs.argmax(axis=1) == targets_N for outputs in (ours_NC, theirs_NC))
    return significance.worst_drop_of_accuracy(right_N, reference_N, level)


def _worst_f1(terms: Terms, targets_NC: Array, ours_NC: Array, theirs_NC: Array, level: float) -> float:
    true_NC = targets_NC.astype(np.bool_)
    return significance.worst_drop_of_micro_f1(true_NC, _sets(terms, ours_NC), _sets(terms, theirs_NC), level)


def _worst_r2(terms: Terms, targets_N: Array, ours_N1: Array, theirs_N1: Array, level: float) -> float:
    return significance.worst_drop_of_r2(targets_N, ours_N1[:, 0], theirs_N1[:, 0], level)


RULES: dict[TaskName, Rule] = {
    CLASSIFICATION: Rule("accuracy", significance.PAIRED_PROPORTIONS, _changed_class, _worst_accuracy),
    MULTI_LABEL: Rule("micro_f1", significance.PAIRED_BOOTSTRAP, _changed_set, _worst_f1),
    REGRESSION: Rule("r2", significance.PAIRED_BOOTSTRAP, _changed_number, _worst_r2),
}
