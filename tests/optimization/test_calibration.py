import numpy as np
import pytest

from fairlead.optimization.calibration import (
    best_temperature,
    confidences,
    describe_calibration,
    describe_rejection,
    threshold_that_keeps,
)


def sampled(scale: float, rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of logits, which are then given `scale` times too large."""
    generator = np.random.default_rng(0)
    logits_NC = generator.normal(size=(rows, 5)) * 2
    probabilities_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    true_N = (probabilities_NC.cumsum(axis=1) > generator.random((rows, 1))).argmax(axis=1)
    return (logits_NC * scale).astype(np.float32), true_N


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_is_what_logits_are_too_large_by(scale: float) -> None:
    logits_NC, true_N = sampled(scale)
    assert best_temperature(logits_NC, true_N) == pytest.approx(scale, rel=0.06)


def test_calibration_is_better_afterwards_and_answers_are_the_same() -> None:
    logits_NC, true_N = sampled(3.0)
    record = describe_calibration("test", logits_NC, true_N, best_temperature(logits_NC, true_N))
    assert record.error_after < 0.03 < 0.15 < record.error_before
    assert record.log_loss_after < record.log_loss_before


def test_rows_that_are_all_right_give_the_coldest_temperature_and_no_failure() -> None:
    logits_NC = np.eye(3, dtype=np.float32)[np.arange(300) % 3]
    assert best_temperature(logits_NC, np.arange(300) % 3) == pytest.approx(0.05, rel=0.01)


def test_the_threshold_keeps_the_share_that_was_asked_for() -> None:
    logits_NC, true_N = sampled(1.0, 1000)
    threshold = threshold_that_keeps(0.9, logits_NC, 1.0)
    assert (confidences(logits_NC, 1.0) >= threshold).sum() == 900
    record = describe_rejection(0.9, threshold, logits_NC, true_N, 1.0)
    assert record.kept_share == 0.9 and record.accuracy_rejected is not None
    assert record.accuracy_rejected < record.accuracy_kept
