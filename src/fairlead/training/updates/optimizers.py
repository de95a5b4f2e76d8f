"""The update rules, which weights decay, and which have a learning rate of their own.

    adamw     Loshchilov and Hutter, 2019: Adam, with weights decayed by rate * weight_decay apart from the gradient
    adam      Kingma and Ba, 2015
    sgd       with momentum v = momentum * v + g, w = w - rate * v
    rmsprop   Tieleman and Hinton, 2012, with momentum
    adagrad   Duchi et al., 2011
    muon      Jordan et al., 2024 (fairlead.training.updates.muon): for models from scratch; AdamW where a weight is no
              matrix of a layer

With all rules but AdamW and Muon, weight decay is added to the gradient (an L2 penalty).
"""

from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from fairlead.training.config import TrainConfig
from fairlead.training.updates.layers import depths, rate_factors
from fairlead.training.updates.muon import Muon
from fairlead.training.updates.shards import local, total_norm

# Torch's own, by rule; SGD divides by nothing.
EPSILON = {"adamw": 1e-8, "adam": 1e-8, "muon": 1e-8, "rmsprop": 1e-8, "adagrad": 1e-10}


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer that `config` names, over the groups of `parameter_groups`."""
    groups = parameter_groups(model, config)
    rate, momentum = config.learning_rate, config.momentum
    betas, epsilon = (config.beta1, config.beta2), _epsilon(config)
    # One fused kernel an update instead of one a tensor operation; the rules without one take the plain way, and
    # so do those for whose kernel torch does not say how it acts on shards.
    is_sharded = any(isinstance(p, DTensor) for p in model.parameters())
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=epsilon, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, betas=betas, eps=epsilon, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=not is_sharded)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=rate, alpha=config.rmsprop_decay, eps=epsilon, momentum=momentum)
        case "adagrad":
            # Torch has its kernel for CPUs only; there it takes 0.4 of the time.
            on_cpu = all(p.device.type == "cpu" for p in model.parameters())
            return torch.optim.Adagrad(groups, lr=rate, eps=epsilon, fused=on_cpu and not is_sharded)
        case "muon":
            return Muon(_with_orthogonal(model, groups), rate, momentum, betas, epsilon)


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The weights that train, by whether they decay and by their `rate_factor` (fairlead.training.updates.layers).

    Decay pulls matrices (embeddings among them) to 0; biases and normalisations have no scale to shrink.
    """
    factors = rate_factors(model, config)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for factor in dict.fromkeys(factors[name] for name, _ in trained):
        for is_matrix, decay in ((True, config.weight_decay), (False, 0.0)):
            chosen = [p for name, p in trained if factors[name] == factor and (p.ndim >= 2) == is_matrix]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "rate_factor": factor})
    return groups


def _with_orthogonal(model: nn.Module, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups, those with matrices of layers cut in two: the matrices, which Muon updates, and the rest."""
    in_stack = depths(model).in_stack
    matrices = {id(p) for name, p in model.named_parameters() if name in in_stack and p.ndim == 2}
    cut = []
    for group in groups:
        for is_orthogonal in (True, False):
            chosen = [p for p in group["params"] if (id(p) in matrices) == is_orthogonal]
            if chosen:
                cut.append(group | {"params": chosen, "orthogonal": is_orthogonal})
    return cut


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate of this step, by its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]


@torch.no_grad()
def clip_gradient(model: nn.Module, config: TrainConfig) -> float:
    """Bound each value of the gradient, then its norm over all parameters, as far as `config` sets limits.

    Returns the norm before any clipping, which shows an infinite gradient that the first bound would hide.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    shards = [local(gradient) for gradient in gradients]
    norm = left = total_norm(gradients)
    if config.gradient_clip_value:
        torch._foreach_clamp_min_(shards, -config.gradient_clip_value)
        torch._foreach_clamp_max_(shards, config.gradient_clip_value)
        left = total_norm(gradients)
    if config.gradient_clip:
        # As torch.nn.utils.clip_grads_with_norm_ has it.
        torch._foreach_mul_(shards, (config.gradient_clip / (left + 1e-6)).clamp(max=1.0))
    return float(norm)


def _epsilon(config: TrainConfig) -> float:
    return EPSILON.get(config.optimizer, 0.0) if config.epsilon is None else config.epsilon
