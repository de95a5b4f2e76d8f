"""Tensors of which each process holds a shard: torch's DTensor, as `fully_shard` leaves weights and gradients.

Everything here takes a plain tensor as well and gives it back, so that nobody asks which of the two it has.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The shard of this process; what is written into it is written into `tensor`."""
    return torch.as_tensor(tensor.to_local()) if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether other processes hold parts of it."""
    return isinstance(tensor, DTensor)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of it; every process has to ask, in the same order."""
    return torch.as_tensor(tensor.full_tensor()) if isinstance(tensor, DTensor) else tensor


def shared_as(like: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, which every process holds whole, cut as `like` is; a number beside a sharded weight stays whole."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    # Without a source nothing is sent: each process cuts its shard out of what it holds.
    cut: torch.Tensor = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return cut


def total_norm(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """The norm over all tensors, of sharded ones over all shards, the same on every process."""
    tensors = list(tensors)
    norm = nn.utils.get_total_norm([local(tensor) for tensor in tensors])
    if any(isinstance(tensor, DTensor) for tensor in tensors):
        squares = norm.square()
        dist.all_reduce(squares)
        norm = squares.sqrt()
    return norm
