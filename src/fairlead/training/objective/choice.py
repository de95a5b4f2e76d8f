"""The loss that the settings ask for, made once for a run.

Shapes: B rows, C classes.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from fairlead.names import CLASSIFICATION, MULTI_LABEL, REGRESSION
from fairlead.training.combinations import check_loss
from fairlead.training.config import TrainConfig
from fairlead.training.objective import class_weights
from fairlead.training.objective.losses import (
    RowLoss,
    binary_cross_entropy_B,
    binary_focal_B,
    cross_entropy_B,
    focal_B,
    squared_error_B,
)

DEFAULT_GAMMA, DEFAULT_BETA = 2.0, 0.999


def single_label_loss(
    config: TrainConfig, names: Sequence[str], labels_N: npt.NDArray[np.integer], device: torch.device
) -> RowLoss:
    """The loss of rows with one label; `labels_N` are the class ids of the training split, for class weights.

    Raises ConfigError for a loss of another task and for class weights that do not fit the classes.
    """
    check_loss(config, CLASSIFICATION)
    weights_C = None
    if config.class_weights is not None:
        counts_C = np.bincount(labels_N, minlength=len(names))
        beta = DEFAULT_BETA if config.effective_number_beta is None else config.effective_number_beta
        weights_C = _tensor(class_weights.class_weights_C(config.class_weights, names, counts_C, beta), device)
    if config.loss == "focal":
        return partial(focal_B, gamma=_gamma(config), weights_C=weights_C)
    return partial(cross_entropy_B, label_smoothing=config.label_smoothing, weights_C=weights_C)


def multi_label_loss(
    config: TrainConfig, names: Sequence[str], positives_C: npt.NDArray[np.int64], num_rows: int, device: torch.device
) -> RowLoss:
    """The loss of rows with any number of labels; `positives_C` of the `num_rows` training rows have each class.

    Raises ConfigError as `single_label_loss` does.
    """
    check_loss(config, MULTI_LABEL)
    weights_C = None
    if config.positive_weights is not None:
        how = config.positive_weights
        weights_C = _tensor(class_weights.positive_weights_C(how, names, positives_C, num_rows), device)
    if config.loss == "focal":
        return partial(binary_focal_B, gamma=_gamma(config), positive_weights_C=weights_C)
    return partial(binary_cross_entropy_B, label_smoothing=config.label_smoothing, positive_weights_C=weights_C)


def regression_loss(config: TrainConfig) -> RowLoss:
    """The loss of rows with numbers. Raises ConfigError for settings that are about classes."""
    check_loss(config, REGRESSION)
    return squared_error_B


def _gamma(config: TrainConfig) -> float:
    return DEFAULT_GAMMA if config.focal_gamma is None else config.focal_gamma


def _tensor(weights_C: class_weights.Floats, device: torch.device) -> torch.Tensor:
    return torch.tensor(weights_C, dtype=torch.float32, device=device)
