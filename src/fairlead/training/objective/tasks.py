"""What training does that depends on what is learned: the loop and the validation know no task by name.

A task is recorded with the data (formats.dataset) and its tokens (formats.tokens); `make_task` makes its part of
one run.

Shapes: B rows of a micro-batch, T tokens of its longest row, C outputs of the model, K numbers kept of a row,
N rows of the validation split.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fairlead.formats.tokens import TokenArrays
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING, MULTI_LABEL, REGRESSION, TaskName
from fairlead.training.batching.batches import MicroBatch, Rows, collate, micro_batches
from fairlead.training.batching.blocks import Blocks
from fairlead.training.combinations import check_loss
from fairlead.training.config import TrainConfig
from fairlead.training.models.outputs import class_names
from fairlead.training.objective.choice import multi_label_loss, regression_loss, single_label_loss
from fairlead.training.objective.language_task import language_scores, token_losses_BT
from fairlead.training.objective.losses import binary_cross_entropy_B, cross_entropy_B
from fairlead.training.objective.scale import Scale
from fairlead.training.objective.scores import (
    classification_scores,
    mean_average_precision,
    multi_label_scores,
    regression_scores,
)
from fairlead.training.objective.thresholds import best_thresholds_C

# Tokens of a forward pass without gradients, padding included.
TOKENS_AT_ONCE = 8192

Kept = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Splits:
    """What is trained on and what picks the best step."""

    train: TokenArrays
    validation: TokenArrays
    pad_token_id: int
    task: TaskName = CLASSIFICATION
    data: Path | None = None
    """Folder of the data version that the rows came from, to say where a bad one stands."""


@dataclass(frozen=True)
class Task:
    """The parts of a run that depend on what is learned. Functions of logits get (B, C), for language (B, T, C)."""

    losses: Callable[[torch.Tensor, MicroBatch], torch.Tensor]
    """The losses of a micro-batch, one a row or one a predicted token, in any shape: the loop adds them up."""
    num_terms: Callable[[Rows], int]
    """How many losses the rows of a global batch have, known before the forward pass: their sum is divided by it."""
    keep: Callable[[torch.Tensor, MicroBatch], torch.Tensor]
    """What a validation keeps of each row, (B, K), as numbers that float32 holds exactly."""
    num_kept: int
    """K."""
    scores: Callable[[Kept], dict[str, float]]
    """The validation's scores, from what was kept of every row of the validation split, (N, K)."""
    metric: str
    """The score that picks the best step."""
    finish: Callable[[nn.Module], None] = lambda model: None
    """What is done, in place, to a model with the best weights before it is saved."""


def make_task(config: TrainConfig, model: nn.Module, splits: Splits, device: torch.device) -> Task:
    """The task of `splits` for one run. Raises ConfigError for settings that are about another task."""
    return MAKERS[splits.task](config, model, splits, device)


def _classification(config: TrainConfig, model: nn.Module, splits: Splits, device: torch.device) -> Task:
    loss_B = single_label_loss(config, class_names(model), splits.train.labels, device)
    labels_N = np.asarray(splits.validation.labels, dtype=np.int64)

    def keep(logits_BC: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        confidence_B, predicted_B = logits_BC.float().softmax(dim=1).max(dim=1)
        return torch.stack([predicted_B.float(), confidence_B, cross_entropy_B(logits_BC, batch.labels_B)], dim=1)

    def scores(kept_N3: Kept) -> dict[str, float]:
        predicted_N, confidence_N, losses_N = kept_N3.T.astype(np.float64)
        return classification_scores(predicted_N.astype(np.int64), confidence_N, labels_N, losses_N)

    return Task(
        losses=lambda logits_BC, batch: loss_B(logits_BC, batch.labels_B),
        num_terms=len,
        keep=keep,
        num_kept=3,
        scores=scores,
        metric=config.metric_for(splits.task),
    )


def _language_modeling(config: TrainConfig, model: nn.Module, splits: Splits, device: torch.device) -> Task:
    check_loss(config, LANGUAGE_MODELING)
    validation = splits.validation
    assert isinstance(validation, Blocks)
    lengths_N, num_predicted = splits.train.lengths, int((validation.lengths - 1).sum())

    def keep(logits_BTV: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        return token_losses_BT(logits_BTV, batch).sum(dim=1, keepdim=True)

    return Task(
        losses=lambda logits_BTV, batch: token_losses_BT(logits_BTV, batch, config.label_smoothing),
        num_terms=lambda rows: int((lengths_N[rows] - 1).sum()),
        keep=keep,
        num_kept=1,
        scores=lambda kept_N1: language_scores(kept_N1[:, 0].astype(np.float64), num_predicted, validation.summary),
        metric=config.metric_for(splits.task),
    )


def _multi_label(config: TrainConfig, model: nn.Module, splits: Splits, device: torch.device) -> Task:
    train_NC, names = splits.train.labels, class_names(model)
    positives_C = np.asarray(train_NC.sum(axis=0, dtype=np.int64))
    loss_B = multi_label_loss(config, names, positives_C, len(train_NC), device)
    true_NC = np.asarray(splits.validation.labels, dtype=np.bool_)

    def keep(logits_BC: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        losses_B = binary_cross_entropy_B(logits_BC, batch.labels_B)
        return torch.cat([logits_BC.float().sigmoid(), losses_B[:, None]], dim=1)

    def scores(kept_NK: Kept) -> dict[str, float]:
        probabilities_NC = kept_NK[:, :-1]
        plain = multi_label_scores(probabilities_NC, true_NC, kept_NK[:, -1].astype(np.float64))
        return {"average_precision": mean_average_precision(probabilities_NC, true_NC)} | plain

    def finish(finished: nn.Module) -> None:
        kept_NK = keep_all(finished, keep, splits.validation, splits.pad_token_id, len(names) + 1)
        finished.config.thresholds = best_thresholds_C(kept_NK[:, :-1], true_NC)  # type: ignore[union-attr]

    return Task(
        losses=lambda logits_BC, batch: loss_B(logits_BC, batch.labels_B),
        num_terms=len,
        keep=keep,
        num_kept=len(names) + 1,
        scores=scores,
        metric=config.metric_for(splits.task),
        finish=finish,
    )


def _regression(config: TrainConfig, model: nn.Module, splits: Splits, device: torch.device) -> Task:
    """The model learns numbers of mean 0 and standard deviation 1; the real ones are folded into it at the end."""
    loss_B = regression_loss(config)
    scale = Scale.of(np.asarray(splits.train.labels), model)
    targets_N = np.asarray(splits.validation.labels, dtype=np.float64)

    def losses(logits_BC: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        return loss_B(logits_BC[:, 0], scale.standard(batch.labels_B))

    def keep(logits_BC: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        return torch.stack([logits_BC[:, 0].float(), losses(logits_BC, batch)], dim=1)

    def scores(kept_N2: Kept) -> dict[str, float]:
        standard_N, losses_N = kept_N2.T.astype(np.float64)
        return regression_scores(standard_N * scale.std + scale.mean, targets_N, losses_N)

    return Task(
        losses=losses,
        num_terms=len,
        keep=keep,
        num_kept=2,
        scores=scores,
        metric=config.metric_for(splits.task),
        finish=scale.fold,
    )


MAKERS: dict[str, Callable[[TrainConfig, nn.Module, Splits, torch.device], Task]] = {
    CLASSIFICATION: _classification,
    LANGUAGE_MODELING: _language_modeling,
    MULTI_LABEL: _multi_label,
    REGRESSION: _regression,
}


@torch.no_grad()
def keep_all(
    model: nn.Module,
    keep: Callable[[torch.Tensor, MicroBatch], torch.Tensor],
    arrays: TokenArrays,
    pad_token_id: int,
    num_kept: int,
) -> Kept:
    """What `keep` keeps of every row of a split, (N, num_kept), by this process alone, where the model is."""
    device = next(model.parameters()).device
    kept_NK = np.zeros((arrays.num_rows, num_kept), np.float32)
    model.eval()
    for rows in micro_batches(np.arange(arrays.num_rows), arrays.lengths, TOKENS_AT_ONCE):
        batch = collate(arrays, rows, pad_token_id).to(device)
        logits = model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT).logits
        kept_NK[rows] = keep(logits, batch).float().cpu().numpy()
    return kept_NK
