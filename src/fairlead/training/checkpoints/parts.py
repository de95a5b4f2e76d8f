"""What a checkpoint is made of: named parts, each a set of tensors.

Whatever a run must carry over from step to step is a part: the weights, the optimizer, and what else
a setting adds (a running mean of the weights, the scale of a loss). A plain number is a tensor
without dimensions. Random state and the place in the data are functions of the step and need none.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn

from fairlead.errors import IntegrityError
from fairlead.training.updates.shards import local, shared_as


class Part(Protocol):
    """State of one component, kept in each checkpoint as `<name>.safetensors`."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state by name, on any device, whole or as shards; not a copy.

        Names, types and shapes stay the same from step 1 on.
        """

    def passing(self) -> frozenset[str]:
        """Names of the tensors that may change before the next update of the weights: in a forward pass."""

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the state that `tensors()` of a component built the same way gave, on the CPU.

        Raises IntegrityError when it is another component's.
        """


class ModelPart:
    """Weights and saved buffers; a tensor that has two names (tied weights) goes under the first."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the state dict."""
        tensors, seen = {}, set()
        for name, tensor in self._model.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                tensors[name] = tensor.detach()
                seen.add(id(tensor))
        return tensors

    def passing(self) -> frozenset[str]:
        """The buffers: batch normalisation counts in them."""
        return frozenset(name for name, _ in self._model.named_buffers())

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy into the model's own tensors."""
        own = self.tensors()
        if tensors.keys() != own.keys():
            raise IntegrityError("the checkpoint holds other tensors than the model; remove it and train again")
        for name, tensor in own.items():
            local(tensor).copy_(local(shared_as(tensor, tensors[name])))


class OptimizerPart:
    """The optimizer's tensors as `<parameter index>.<name>`; its rates are functions of the step."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the state dict."""
        return {
            f"{index}.{name}": value
            for index, values in self._optimizer.state_dict()["state"].items()
            for name, value in values.items()
            if isinstance(value, torch.Tensor)
        }

    def passing(self) -> frozenset[str]:
        """None: it is the update that changes them."""
        return frozenset()

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put into the optimizer, on the device of its weights."""
        states: dict[int, dict[str, torch.Tensor]] = {}
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        for key, tensor in tensors.items():
            index, name = key.split(".", 1)
            states.setdefault(int(index), {})[name] = shared_as(weights[int(index)], tensor)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": states, "param_groups": groups})
