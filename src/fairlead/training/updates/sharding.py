"""Weights, gradients and the optimizer's state cut up over the processes, for models that one device does not hold.

It is torch's FSDP2 (`fully_shard`; Zhao et al., 2023, "PyTorch FSDP", and Rajbhandari et al., 2020, "ZeRO", stage 3):
each process keeps 1 / W of every weight. A layer's weights are gathered before it computes, forward and backward, and
let go after; its gradient is summed and cut up in the backward pass of every micro-batch, so that no process ever
holds more than its shards, one layer or two, and what is outside the layers (embeddings, head).

Checkpoints hold whole tensors under the names of a model that is not cut up, so that a run goes on at any number of
processes, and with or without shards. They are put together by the first process, in the host's memory.
"""

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from fairlead.training.batching.passes import Network
from fairlead.training.launching.distributed import Group
from fairlead.training.models.packed_models import WITHIN, run_layer
from fairlead.training.updates.layers import layers_of

PACKED = "run_packed"


class Shards:
    """The shards of one model, and how it becomes whole again."""

    def __init__(self, network: Network, group: Group, copy_type: torch.dtype | None) -> None:
        """Cut up `network`, whose model lies in the host's memory, and move the shards to the devices.

        With a `copy_type` weights are gathered, and computed with, as copies of that type; shards stay as they are.
        """
        self._model = network.model
        self._outline = _outline(network.model) if group.is_first else None
        # Gradients are summed in float32, as those of a working copy are.
        policy = MixedPrecisionPolicy(param_dtype=copy_type, reduce_dtype=torch.float32 if copy_type else None)
        mesh = DeviceMesh.from_group(dist.group.WORLD, group.device.type)
        for layer in layers_of(network.model):
            fully_shard(layer, mesh=mesh, mp_policy=policy)
            _let_run(layer, WITHIN, run_layer)
        # The root is let go as well after a pass: weights are exchanged with their averages, and read, between passes.
        fully_shard(network.model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        if network.packed is not None:
            _let_run(network.model, PACKED, network.packed)
            network.packed = _run_packed

    def whole_model(self) -> nn.Module:
        """A model like the one that was cut up, on the CPU and with weights yet to be loaded; the first process's."""
        assert self._outline is not None
        trains = {name: parameter.requires_grad for name, parameter in self._model.named_parameters()}
        _materialise(self._outline)
        for name, parameter in self._outline.named_parameters():
            parameter.requires_grad_(trains[name])
        return self._outline


def _run_packed(model: Any, *arguments: Any) -> torch.Tensor:
    logits: torch.Tensor = getattr(model, PACKED)(*arguments)
    return logits


def _let_run(module: nn.Module, name: str, function: Callable[..., Any]) -> None:
    """Give `module` a method that runs `function` on it, with the module's weights gathered meanwhile."""
    setattr(module, name, MethodType(function, module))
    register_fsdp_forward_method(module, name)


def _outline(model: nn.Module) -> nn.Module:
    """A copy of `model` whose weights take no memory."""
    memo = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, memo)


def _materialise(outline: nn.Module) -> None:
    """Give the weights of an outline memory; one that has two names stays one."""
    made: dict[int, nn.Parameter] = {}
    for module in outline.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            made.setdefault(id(parameter), nn.Parameter(torch.empty_like(parameter, device="cpu")))
            setattr(module, name, made[id(parameter)])
