"""What the Kubeflow dashboard shows of an evaluation, through the artifact objects that a component gets."""

import math
from typing import Protocol

from fairlead.evaluation.metrics import Curves
from fairlead.formats.evaluation import ChampionScore, Evaluation

# The artifacts' metadata travels in one gRPC message of 4 MB: 200 x 200 cells and 200 points stay far below.
MAX_CATEGORIES = 200
MAX_POINTS = 200


class ScalarMetrics(Protocol):
    """KFP's `Metrics`."""

    def log_metric(self, metric: str, value: float) -> None:
        """Show one number."""


class ClassificationMetrics(Protocol):
    """KFP's `ClassificationMetrics`."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
        """Show a confusion matrix."""

    def log_roc_curve(self, fpr: list[float], tpr: list[float], threshold: list[float]) -> None:
        """Show a ROC curve."""


def log_metrics(artifact: ScalarMetrics, evaluations: list[Evaluation], champion: ChampionScore | None) -> None:
    """The metrics of every data set: the test split's by their own names, others' as `<data set>_<metric>`."""
    named = dict(evaluations[0].metrics)
    for evaluation in evaluations[1:]:
        named |= {f"{evaluation.dataset}_{name}": value for name, value in evaluation.metrics.items()}
    if champion:
        named |= {f"champion_{name}": value for name, value in champion.metrics.items()}
    for name, value in named.items():
        if math.isfinite(value):
            artifact.log_metric(name, value)


def notes_on(test: Evaluation) -> list[str]:
    """What the dashboard leaves out, for the report's notes."""
    if len(test.labels) <= MAX_CATEGORIES or not test.confusion:
        return []
    return [
        f"the dashboard shows no confusion matrix of {len(test.labels)} classes (at most {MAX_CATEGORIES}); "
        "evaluation.json holds it"
    ]


def log_classification(artifact: ClassificationMetrics, test: Evaluation, curves: Curves | None) -> None:
    """The confusion matrix of the test split and, for two classes, its ROC."""
    if test.confusion and len(test.labels) <= MAX_CATEGORIES:
        artifact.log_confusion_matrix(test.labels, test.confusion)
    if curves:
        kept = _spread(len(curves.fpr))
        artifact.log_roc_curve(
            [curves.fpr[i] for i in kept], [curves.tpr[i] for i in kept], [curves.thresholds[i] for i in kept]
        )


def _spread(count: int) -> list[int]:
    """At most MAX_POINTS indices below `count`, evenly spread, both ends included."""
    if count <= MAX_POINTS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MAX_POINTS - 1)) for i in range(MAX_POINTS)})
