import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from fairlead.evaluation.metrics import calibration_error, log_softmax, measure, reliability
from fairlead.evaluation.sets import measure_sets
from fairlead.training.objective.scores import classification_scores, multi_label_scores

LABELS = ["a", "b", "c", "d"]


def some(num_rows: int, num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits that lean towards them."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, num_classes, num_rows)
    logits = draw.normal(size=(num_rows, num_classes)).astype(np.float32)
    logits[np.arange(num_rows), true] += 1.0
    return true, logits


def test_many_classes_agree_with_scikit_learn() -> None:
    true, logits = some(200, 4)
    scores = measure(LABELS, true, logits, num_bins=10)
    said, probabilities = logits.argmax(axis=1), np.exp(log_softmax(logits))
    assert scores.metrics["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(true, said))
    assert scores.metrics["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(true, said, average="macro"))
    assert scores.metrics["weighted_f1"] == pytest.approx(sklearn_metrics.f1_score(true, said, average="weighted"))
    assert scores.metrics["mcc"] == pytest.approx(sklearn_metrics.matthews_corrcoef(true, said))
    assert scores.metrics["log_loss"] == pytest.approx(sklearn_metrics.log_loss(true, probabilities))
    assert scores.confusion == sklearn_metrics.confusion_matrix(true, said).tolist()
    report = sklearn_metrics.classification_report(true, said, target_names=LABELS, output_dict=True)
    for label in LABELS:
        found = scores.per_class[label]
        assert [found.precision, found.recall, found.f1, found.support] == pytest.approx(
            [report[label][name] for name in ("precision", "recall", "f1-score", "support")]
        )
    assert scores.curves is None and not {"f1", "roc_auc", "average_precision"} & scores.metrics.keys()


@pytest.mark.parametrize("positive", [0, 1])
def test_two_classes_agree_with_scikit_learn(positive: int) -> None:
    true, logits = some(150, 2, seed=1)
    scores = measure(["ham", "spam"], true, logits, num_bins=10, positive=positive)
    chance = np.exp(log_softmax(logits))[:, positive]
    is_positive = true == positive
    assert scores.metrics["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(is_positive, chance))
    average = sklearn_metrics.average_precision_score(is_positive, chance)
    assert scores.metrics["average_precision"] == pytest.approx(average)
    f1 = sklearn_metrics.f1_score(true, logits.argmax(axis=1), pos_label=positive)
    assert scores.metrics["f1"] == pytest.approx(f1)
    assert scores.curves is not None
    area = sklearn_metrics.auc(scores.curves.fpr, scores.curves.tpr)
    assert scores.metrics["roc_auc"] == pytest.approx(area)
    assert scores.curves.thresholds[0] == 1.0 and np.isfinite(scores.curves.thresholds).all()


def test_by_hand() -> None:
    # Truth a a b; said a b b: a has precision 1, recall 1/2; b precision 1/2, recall 1; both F1 2/3.
    logits = np.log(np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]]))
    scores = measure(["a", "b"], np.array([0, 0, 1]), logits, num_bins=2, positive=1)
    assert scores.confusion == [[1, 1], [0, 1]]
    assert scores.metrics["macro_f1"] == pytest.approx(2 / 3)
    # 3 rows, 2 right; predictions (1, 2), occurrences (2, 1): (3*2 - 4) / sqrt((9 - 5) (9 - 5)).
    assert scores.metrics["mcc"] == pytest.approx(0.5)
    assert scores.metrics["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.4) + np.log(0.9)) / 3)
    # One filled bin (0.5, 1]: confidence (0.8 + 0.6 + 0.9) / 3, accuracy 2/3.
    assert scores.metrics["calibration_error"] == pytest.approx(abs(2.3 / 3 - 2 / 3))
    # Scores of b: 0.2, 0.6, 0.9, the last one true: ranked perfectly.
    assert scores.metrics["roc_auc"] == scores.metrics["average_precision"] == 1.0


def test_calibration_error_by_hand() -> None:
    # Bins (0.5, 0.75] and (0.75, 1]: |1/2 - 0.65| of two rows and |1 - 0.9| of one.
    probabilities = np.array([[0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])
    bins = reliability(np.array([0, 1, 1]), probabilities, num_bins=4)
    assert [b.num_rows for b in bins] == [0, 0, 2, 1]
    assert calibration_error(bins) == pytest.approx((2 * 0.15 + 1 * 0.1) / 3)


@pytest.mark.parametrize("confidence", [0.5, 1.0])
def test_bin_edges_belong_to_the_bin_below(confidence: float) -> None:
    bins = reliability(np.array([0]), np.array([[confidence, 1 - confidence]]), num_bins=2)
    assert [b.num_rows for b in bins] == ([1, 0] if confidence == 0.5 else [0, 1])


def test_certainty_in_the_wrong_class_is_finite() -> None:
    scores = measure(["a", "b"], np.array([0, 1]), np.array([[0.0, 2000.0], [0.0, 2000.0]]), num_bins=5, positive=0)
    assert scores.metrics["log_loss"] == 1000.0
    assert all(np.isfinite(value) for value in scores.metrics.values())


def test_one_class_present_has_no_curves_and_no_nan() -> None:
    scores = measure(["a", "b"], np.array([1, 1]), np.array([[0.0, 1.0], [0.0, 2.0]]), num_bins=5, positive=0)
    assert scores.curves is None
    assert scores.metrics["macro_f1"] == 1.0, "a class neither present nor predicted does not count"
    assert scores.metrics["f1"] == 0.0 and scores.metrics["mcc"] == 0.0
    assert all(np.isfinite(value) for value in scores.metrics.values())


def test_one_row() -> None:
    scores = measure(LABELS, np.array([2]), np.array([[0.0, 0.0, 3.0, 0.0]]), num_bins=15)
    assert scores.metrics["accuracy"] == 1.0 and sum(map(sum, scores.confusion)) == 1


@pytest.mark.filterwarnings("error")
def test_mcc_of_the_report_is_that_of_the_validation() -> None:
    true, logits = some(120, 4, seed=2)
    sure = np.exp(log_softmax(logits)).max(axis=1)
    of_run = classification_scores(logits.argmax(axis=1), sure, true, np.ones(120))
    assert measure(LABELS, true, logits, 5).metrics["mcc"] == pytest.approx(of_run["mcc"])
    targets, margins = (logits + 1 > 0).astype(int), np.random.default_rng(3).normal(size=(120, 4)) + logits
    of_sets = measure_sets(LABELS, targets, margins, [0.5] * 4, 5)
    of_run = multi_label_scores(1 / (1 + np.exp(-margins)), targets == 1, np.ones(120))
    assert of_sets.metrics["mcc"] == pytest.approx(of_run["mcc"]) and 0.3 < of_run["mcc"] < 1
    assert measure_sets(["a"], np.array([[1]]), np.array([[2.0]]), [0.5], 5).metrics["mcc"] == 0.0
