"""Losses against torch and their formulas, values and gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fairlead.training.objective.losses import (
    binary_cross_entropy_B,
    binary_focal_B,
    cross_entropy_B,
    focal_B,
    squared_error_B,
)

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
LABELS = torch.tensor([0, 1])
WEIGHTS = torch.tensor([0.5, 2.0, 1.0])
TARGETS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [torch.ones(3), WEIGHTS])
def test_cross_entropy_is_the_formula(smoothing: float, weights: torch.Tensor) -> None:
    logs = torch.log_softmax(LOGITS, dim=1)
    expected = [
        (1 - smoothing) * weights[y] * -logs[i, y] + smoothing / 3 * (weights * -logs[i]).sum()
        for i, y in enumerate(LABELS.tolist())
    ]
    assert torch.allclose(cross_entropy_B(LOGITS, LABELS, smoothing, weights), torch.stack(expected))


def test_focal_is_the_formula() -> None:
    p = torch.softmax(LOGITS, dim=1)[torch.arange(2), LABELS]
    expected = WEIGHTS[LABELS] * (1 - p) ** 1.5 * -p.log()
    assert torch.allclose(focal_B(LOGITS, LABELS, 1.5, WEIGHTS), expected)
    # By hand: p = 1/2, so the loss is (1/2)^2 * ln 2.
    assert focal_B(torch.zeros(1, 2), torch.tensor([0]), 2.0).item() == pytest.approx(math.log(2) / 4)


def test_without_focus_both_focal_losses_are_cross_entropy() -> None:
    assert torch.allclose(focal_B(LOGITS, LABELS, 0.0, WEIGHTS), cross_entropy_B(LOGITS, LABELS, 0.0, WEIGHTS))
    plain = binary_cross_entropy_B(LOGITS, TARGETS, 0.0, WEIGHTS)
    assert torch.allclose(binary_focal_B(LOGITS, TARGETS, 0.0, WEIGHTS), plain)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_has_a_gradient_where_a_row_is_certainly_right_or_wrong(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    for loss in (focal_B(logits, torch.tensor([0, 0]), gamma), binary_focal_B(logits, torch.ones(2, 2), gamma)):
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.isfinite().all() and gradient.isfinite().all()
        assert gradient[0, 0].item() == 0.0 and gradient[1, 0].item() < -0.4


def test_binary_cross_entropy_is_torch_s() -> None:
    expected = F.binary_cross_entropy_with_logits(LOGITS, TARGETS, pos_weight=WEIGHTS)
    assert torch.allclose(binary_cross_entropy_B(LOGITS, TARGETS, 0.0, WEIGHTS).mean(), expected)
    smoothed = F.binary_cross_entropy_with_logits(LOGITS, TARGETS * 0.8 + 0.1)
    assert torch.allclose(binary_cross_entropy_B(LOGITS, TARGETS, 0.2).mean(), smoothed)


def test_binary_focal_is_the_formula() -> None:
    q = torch.sigmoid(LOGITS)
    right = torch.where(TARGETS == 1, q, 1 - q)
    factor = torch.where(TARGETS == 1, WEIGHTS, torch.ones(3))
    expected = (factor * (1 - right) ** 2 * -right.log()).mean(dim=1)
    assert torch.allclose(binary_focal_B(LOGITS, TARGETS, 2.0, WEIGHTS), expected)


def test_squared_error_is_torch_s_for_one_number_and_for_several() -> None:
    generator = torch.Generator().manual_seed(0)
    values, targets = torch.randn(2, 5, 3, generator=generator)
    assert torch.allclose(squared_error_B(values, targets).mean(), F.mse_loss(values, targets))
    assert torch.allclose(squared_error_B(values[:, :1], targets[:, 0]).mean(), F.mse_loss(values[:, 0], targets[:, 0]))


def test_half_precision_logits_lose_nothing_more() -> None:
    half = LOGITS.bfloat16()
    assert torch.equal(cross_entropy_B(half, LABELS), cross_entropy_B(half.float(), LABELS))
    assert focal_B(half, LABELS, 2.0).dtype == torch.float32
    assert np.isfinite(binary_focal_B(half, TARGETS, 2.0).numpy()).all()
