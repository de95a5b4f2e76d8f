"""Losses and scores against their formulas and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from fairlead.training.losses import cross_entropy_B, is_better, scores


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_the_formula(smoothing: float) -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
    logs = torch.log_softmax(logits, dim=1)
    expected = torch.tensor(
        [(1 - smoothing) * -logs[i, y] + smoothing / 3 * -logs[i].sum() for i, y in ((0, 0), (1, 1))]
    )
    assert torch.allclose(cross_entropy_B(logits, torch.tensor([0, 1]), smoothing), expected)


@pytest.mark.parametrize("num_classes", [2, 5, 30])
def test_scores_agree_with_scikit_learn(num_classes: int) -> None:
    generator = np.random.default_rng(num_classes)
    labels, predicted = generator.integers(0, num_classes, (2, 40))
    found = scores(predicted, labels, np.full(40, 0.5))
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found["loss"] == 0.5


def test_a_lower_loss_and_a_higher_score_are_better() -> None:
    assert is_better("loss", 0.1, 0.2) and not is_better("loss", 0.2, 0.2)
    assert is_better("macro_f1", 0.2, 0.1) and not is_better("accuracy", 0.2, 0.2)
    assert is_better("loss", 9.0, None)
