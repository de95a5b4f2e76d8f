"""The update rules, and which weights decay."""

import torch
from torch import nn

from fairlead.training.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer that `config` names, over two groups: matrices, which decay, and the rest."""
    groups = parameter_groups(model, config.weight_decay)
    rate, momentum = config.learning_rate, config.momentum
    # One fused kernel an update instead of one a tensor operation; the rules without one take the plain way.
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=rate)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay pulls matrices (embeddings among them) to 0; biases and normalisations have no scale to shrink."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate of this step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradient(model: nn.Module, limit: float) -> float:
    """Scale the gradient so that its norm over all parameters is at most `limit` (0: leave it). Returns the norm."""
    return float(nn.utils.clip_grad_norm_(model.parameters(), limit or float("inf")))
