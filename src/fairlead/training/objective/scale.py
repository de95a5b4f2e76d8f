"""The scale of the numbers that a regression learns.

Numbers in thousands would need a learning rate of their own, and a model that begins at 0 would first have to
learn the mean. So it learns (y - mean) / std, and in the end its last layer is multiplied by std and moved by mean:
W' = std * W, b' = std * b + mean gives exactly std * (W h + b) + mean, and the saved model needs no scale beside it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fairlead.errors import ConfigError


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of the training numbers."""

    mean: float
    std: float

    @classmethod
    def of(cls, numbers_N: npt.NDArray[np.float64], model: nn.Module) -> "Scale":
        """The scale of some numbers, not all alike. A last layer without a bias cannot take up a mean: it stays 0,
        and std is the root mean square."""
        if last_linear(model).bias is None:
            return cls(0.0, float(np.sqrt(np.square(numbers_N).mean())))
        return cls(float(numbers_N.mean()), float(numbers_N.std()))

    def standard(self, numbers_B: torch.Tensor) -> torch.Tensor:
        """Numbers as the model learns them, in float32 after float64: a large mean costs no digits."""
        return ((numbers_B.double() - self.mean) / self.std).float()

    @torch.no_grad()
    def fold(self, model: nn.Module) -> None:
        """Let a model that learned this scale give real numbers."""
        linear = last_linear(model)
        linear.weight.mul_(self.std)
        if linear.bias is not None:
            linear.bias.copy_(linear.bias.double() * self.std + self.mean)


def last_linear(model: nn.Module) -> Any:
    """The linear layer that gives the model's one output. Raises ConfigError for a model without one."""
    found = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1]
    if not found:
        name = type(model).__name__
        raise ConfigError(f"model.base: {name} ends in no linear layer, which regression needs; use another model")
    return found[-1]
