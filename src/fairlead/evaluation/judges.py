"""How each task's outputs are judged: what is measured, what is said of each text, what the report shows.

Shapes: N rows, C outputs of the model.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.evaluation import numbers, sets
from fairlead.evaluation.class_report import class_section
from fairlead.evaluation.metrics import Curves, log_softmax, measure
from fairlead.evaluation.mistakes import worst_mistakes
from fairlead.evaluation.number_report import number_section
from fairlead.evaluation.set_report import set_section
from fairlead.formats.evaluation import ClassScores, Evaluation
from fairlead.names import CLASSIFICATION, MULTI_LABEL, REGRESSION, TaskName

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Terms:
    """What a model's outputs mean, and how closely they are looked at."""

    labels: list[str]
    thresholds: list[float]
    """Of multi-label classes, by class id."""
    positive: int | None
    """The class that two-class metrics are about."""
    num_bins: int


@dataclass(frozen=True)
class Judgement:
    """What was measured on one data set."""

    metrics: dict[str, float]
    per_class: dict[str, ClassScores] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    curves: Curves | None = None
    details: Any = None
    """What only the report's section shows."""


@dataclass(frozen=True)
class Answers:
    """All rows of a data set with what the model gave for them."""

    rows: Iterable[tuple[str, str]]
    targets: Array
    known_N: npt.NDArray[np.bool_]
    """Rows whose labels the model knows."""
    outputs_NC: Array
    limit: int
    """Mistakes shown."""


@dataclass(frozen=True)
class Judge:
    """The functions of one task."""

    measure: Callable[[Terms, Array, Array], Judgement]
    """From targets and outputs of rows whose labels are known."""
    say: Callable[[Terms, Array], tuple[Sequence[str], Sequence[float | None]]]
    """What the model says of each row, as text, and how surely."""
    section: Callable[[Terms, Evaluation, Judgement, Answers], str]
    """The report's HTML for a data set."""


def _measure_classes(terms: Terms, true_N: Array, logits_NC: Array) -> Judgement:
    scores = measure(terms.labels, true_N, logits_NC, terms.num_bins, terms.positive)
    return Judgement(scores.metrics, scores.per_class, scores.confusion, scores.curves, scores)


def _say_classes(terms: Terms, logits_NC: Array) -> tuple[list[str], list[float | None]]:
    probabilities_NC = np.exp(log_softmax(logits_NC))
    return [terms.labels[i] for i in probabilities_NC.argmax(axis=1)], probabilities_NC.max(axis=1).tolist()


def _show_classes(terms: Terms, evaluation: Evaluation, judgement: Judgement, answers: Answers) -> str:
    probabilities_NC = np.exp(log_softmax(answers.outputs_NC))
    mistakes = worst_mistakes(answers.rows, terms.labels, answers.targets, probabilities_NC, answers.limit)
    return class_section(evaluation, judgement.details, mistakes)


def _measure_sets(terms: Terms, targets_NC: Array, logits_NC: Array) -> Judgement:
    scores = sets.measure_sets(terms.labels, targets_NC, logits_NC, terms.thresholds, terms.num_bins)
    return Judgement(scores.metrics, scores.per_class, details=scores)


def _say_sets(terms: Terms, logits_NC: Array) -> tuple[list[str], list[float | None]]:
    said = sets.predicted_sets(terms.labels, logits_NC, terms.thresholds)
    return said, [None] * len(said)


def _show_sets(terms: Terms, evaluation: Evaluation, judgement: Judgement, answers: Answers) -> str:
    mistakes = sets.worst_sets(
        *(answers.rows, terms.labels, answers.targets, answers.known_N),
        *(answers.outputs_NC, terms.thresholds, answers.limit),
    )
    return set_section(evaluation, judgement.details, terms.thresholds, mistakes)


def _measure_numbers(terms: Terms, true_N: Array, outputs_N1: Array) -> Judgement:
    return Judgement(numbers.measure_numbers(true_N, outputs_N1[:, 0]))


def _say_numbers(terms: Terms, outputs_N1: Array) -> tuple[list[str], list[float | None]]:
    said = [repr(float(value)) for value in outputs_N1[:, 0]]
    return said, [None] * len(said)


def _show_numbers(terms: Terms, evaluation: Evaluation, judgement: Judgement, answers: Answers) -> str:
    values_N = answers.outputs_NC[:, 0]
    misses = numbers.worst_misses(answers.rows, answers.targets, values_N, answers.limit)
    return number_section(answers.targets, values_N, misses)


JUDGES: dict[TaskName, Judge] = {
    CLASSIFICATION: Judge(_measure_classes, _say_classes, _show_classes),
    MULTI_LABEL: Judge(_measure_sets, _say_sets, _show_sets),
    REGRESSION: Judge(_measure_numbers, _say_numbers, _show_numbers),
}
