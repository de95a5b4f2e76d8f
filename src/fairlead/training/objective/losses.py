"""What training minimises: a loss a row, in float32 whatever the precision of the logits.

A step minimises `sum over the global batch of loss_B / rows of the global batch`. The divisor is known before
the forward pass and is the same at any number of processes and micro-batches. Torch's own weighted mean divides
by the weights of the rows at hand instead: that cancels the weights where a batch holds one class (at batch size
1 they do nothing at all), and would depend on how a batch is cut. Class weights are scaled to a mean of 1 over
the training rows (fairlead.training.objective.class_weights), so the two agree in expectation and the rate keeps
its meaning.

Shapes: B rows, C classes, K numbers a row.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

# From a micro-batch's logits and labels to the loss of each of its rows.
RowLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy_B(
    logits_BC: torch.Tensor,
    labels_B: torch.Tensor,
    label_smoothing: float = 0.0,
    weights_C: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy with label smoothing s and class weights w, for logits z and class y.

        loss = (1 - s) * w_y * -log p_y + s / C * sum_c w_c * -log p_c,   p = softmax(z)

    Smoothing: Szegedy et al., 2016, "Rethinking the Inception Architecture", section 7.
    """
    return F.cross_entropy(
        logits_BC.float(), labels_B, weight=weights_C, reduction="none", label_smoothing=label_smoothing
    )


def focal_B(
    logits_BC: torch.Tensor, labels_B: torch.Tensor, gamma: float, weights_C: torch.Tensor | None = None
) -> torch.Tensor:
    """Focal loss: cross-entropy with less of it for rows that are already right (gamma 0 is cross-entropy).

        loss = w_y * (1 - p_y)^gamma * -log p_y,   p = softmax(z)

    Lin et al., 2017, "Focal Loss for Dense Object Detection", eq. 5, with the softmax for several classes.
    """
    log_p_B = _log_probability_B(logits_BC, labels_B)
    # 1 - p as expm1 keeps its digits where p is nearly 1.
    loss_B = -log_p_B * _power(-torch.expm1(log_p_B), gamma)
    return loss_B if weights_C is None else loss_B * weights_C[labels_B]


def binary_cross_entropy_B(
    logits_BC: torch.Tensor,
    targets_BC: torch.Tensor,
    label_smoothing: float = 0.0,
    positive_weights_C: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over classes of the binary cross-entropy of each, for rows that may have any number of labels.

        loss = 1 / C * sum_c [ w_c * t_c * -log q_c + (1 - t_c) * -log(1 - q_c) ],   q = sigmoid(z)

    Targets t are 0 or 1, moved by smoothing s to t * (1 - s) + s / 2; w weighs the positives of a class
    (torch.nn.BCEWithLogitsLoss's `pos_weight`).
    """
    targets_BC = targets_BC.float() * (1 - label_smoothing) + label_smoothing / 2
    loss_BC = F.binary_cross_entropy_with_logits(
        logits_BC.float(), targets_BC, pos_weight=positive_weights_C, reduction="none"
    )
    return loss_BC.mean(dim=1)


def binary_focal_B(
    logits_BC: torch.Tensor, targets_BC: torch.Tensor, gamma: float, positive_weights_C: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over classes of the binary focal loss of each (Lin et al., 2017, eq. 5).

    loss = 1 / C * sum_c a_c * (1 - r_c)^gamma * -log r_c,   r = q where the target is 1, else 1 - q

    a is w_c for positives and 1 for negatives.
    """
    targets_BC = targets_BC.float()
    loss_BC = F.binary_cross_entropy_with_logits(logits_BC.float(), targets_BC, reduction="none")
    loss_BC = loss_BC * _power(-torch.expm1(-loss_BC), gamma)
    if positive_weights_C is not None:
        loss_BC = loss_BC * (1 + targets_BC * (positive_weights_C - 1))
    return loss_BC.mean(dim=1)


def squared_error_B(values_BK: torch.Tensor, targets_BK: torch.Tensor) -> torch.Tensor:
    """Mean over the K numbers of a row of (value - target)^2; both of shape (B, K) or (B,)."""
    # Shapes (B, 1) and (B,) would subtract to (B, B).
    error = values_BK.float().reshape(len(values_BK), -1) - targets_BK.float().reshape(len(targets_BK), -1)
    return error.square().mean(dim=1)


def _log_probability_B(logits_BC: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    return F.log_softmax(logits_BC.float(), dim=1).gather(1, labels_B[:, None]).squeeze(1)


def _power(miss: torch.Tensor, gamma: float) -> torch.Tensor:
    """miss^gamma with a gradient that is finite at a miss of 0, where that of a power below 1 is not."""
    return miss.clamp_min(torch.finfo(torch.float32).tiny).pow(gamma)
