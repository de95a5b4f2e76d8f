"""Scores against scikit-learn, SciPy's definitions and hand-computed values."""

import math

import numpy as np
import pytest
from sklearn import metrics

from fairlead.evaluation.metrics import calibration_error as evaluation_calibration_error
from fairlead.evaluation.metrics import reliability
from fairlead.training.config import METRICS_BY_TASK
from fairlead.training.objective.scores import (
    calibration_error,
    classification_scores,
    is_better,
    multi_label_scores,
    ranks,
    regression_scores,
)


def random_rows(num_classes: int) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(num_classes)
    probabilities = generator.dirichlet(np.ones(num_classes), 40)
    labels, predicted = generator.integers(0, num_classes, 40), probabilities.argmax(axis=1)
    return predicted, probabilities.max(axis=1), labels, generator.random(40), probabilities


@pytest.mark.parametrize("num_classes", [2, 5, 30])
def test_scores_agree_with_scikit_learn(num_classes: int) -> None:
    predicted, confidence, labels, losses, probabilities = random_rows(num_classes)
    found = classification_scores(predicted, confidence, labels, losses)
    assert set(found) == set(METRICS_BY_TASK["classification"])
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    for average in ("macro", "micro", "weighted"):
        assert found[f"{average}_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average=average))
    assert found["mcc"] == pytest.approx(metrics.matthews_corrcoef(labels, predicted))
    assert found["calibration_error"] == pytest.approx(
        evaluation_calibration_error(reliability(labels, probabilities, 15))
    )
    assert found["loss"] == pytest.approx(losses.mean())
    assert found["perplexity"] == pytest.approx(math.exp(losses.mean()))


def test_a_constant_answer_has_no_correlation() -> None:
    labels = np.array([0, 1, 1, 2])
    found = classification_scores(np.ones(4, dtype=int), np.ones(4), labels, np.ones(4))
    assert found["mcc"] == 0.0 and found["accuracy"] == 0.5


def test_the_calibration_error_by_hand() -> None:
    # Two bins: 0.3 and 0.5 are one in two right, 0.9 twice right: (2 |0.5 - 0.4| + 2 |1 - 0.9|) / 4.
    confidence, right = np.array([0.3, 0.5, 0.9, 0.9]), np.array([True, False, True, True])
    assert calibration_error(confidence, right, num_bins=2) == pytest.approx(0.1)


def test_multi_label_scores_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    probabilities, targets = generator.random((50, 4)), generator.random((50, 4)) < 0.3
    found = multi_label_scores(probabilities, targets, np.full(50, 0.25), threshold=0.6)
    predicted = probabilities >= 0.6
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(targets, predicted))
    for average in ("macro", "micro", "weighted"):
        assert found[f"{average}_f1"] == pytest.approx(metrics.f1_score(targets, predicted, average=average))
    assert found["mcc"] == pytest.approx(metrics.matthews_corrcoef(targets.ravel(), predicted.ravel()))
    assert 0 < found["calibration_error"] < 1 and found["loss"] == 0.25


def test_regression_scores_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 5, 60).astype(float)
    values = targets + generator.normal(size=60)
    found = regression_scores(values, targets, np.square(values - targets))
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(targets, values)) == pytest.approx(found["loss"])
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(targets, values))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(targets, values))
    assert found["r2"] == pytest.approx(metrics.r2_score(targets, values))
    assert found["pearson"] == pytest.approx(np.corrcoef(values, targets)[0, 1])
    assert found["spearman"] == pytest.approx(np.corrcoef(ranks(values), ranks(targets))[0, 1])


def test_equal_values_share_their_ranks() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_constant_numbers_have_no_correlation() -> None:
    found = regression_scores(np.ones(3), np.full(3, 2.0), np.ones(3))
    assert (found["r2"], found["pearson"], found["spearman"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("metric", ["loss", "perplexity", "calibration_error"])
def test_of_some_metrics_less_is_better(metric: str) -> None:
    assert is_better(metric, 0.1, 0.2) and not is_better(metric, 0.2, 0.2) and is_better(metric, 9.0, None)


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy", "mcc", "weighted_f1"])
def test_of_others_more_is(metric: str) -> None:
    assert is_better(metric, 0.2, 0.1) and not is_better(metric, 0.2, 0.2) and not is_better(metric, math.nan, 0.1)
