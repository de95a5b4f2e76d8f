"""A regression's scale, folded into the model, and the thresholds of multi-label classes."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from fairlead.training.objective.scale import Scale
from fairlead.training.objective.scores import average_precision
from fairlead.training.objective.thresholds import best_threshold, best_thresholds_C


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_model_gives_real_numbers(bias: bool) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 1, bias=bias))
    numbers = np.array([1000.0, 1010.0, 1060.0])
    scale, inputs = Scale.of(numbers, model), torch.randn(5, 4)
    expected = model(inputs) * scale.std + scale.mean
    scale.fold(model)
    torch.testing.assert_close(model(inputs), expected)
    assert scale.mean == (pytest.approx(1023.33, abs=0.01) if bias else 0.0)
    assert scale.standard(torch.from_numpy(numbers)).square().mean() == pytest.approx(1.0)


def test_a_threshold_has_the_best_f1_of_all() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random(60).round(1)
    true = generator.random(60) < probability
    found = f1_score(true, probability >= best_threshold(probability, true))
    assert found == max(f1_score(true, probability >= t) for t in np.arange(0.05, 1, 0.1))
    assert average_precision(probability, true) == pytest.approx(average_precision_score(true, probability))
    assert best_threshold(probability, np.zeros(60, bool)) == 0.5


def test_rare_classes_share_a_threshold() -> None:
    generator = np.random.default_rng(1)
    probabilities = generator.random((100, 3))
    true = np.stack([probabilities[:, 0] < 0.5, np.arange(100) < 3, np.arange(100) < 4], axis=1)
    own, *rare = best_thresholds_C(probabilities, true)
    assert own == best_threshold(probabilities[:, 0], true[:, 0])
    assert rare == [best_threshold(probabilities.ravel(), true.ravel())] * 2
