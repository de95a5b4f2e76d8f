"""The exchange of gradients between processes, which DDP begins bucket by bucket during the last backward pass.

It is DDP's own (the mean of each bucket over the processes), watched: a process that fails in the middle
can take part in the rest, so that the others do not wait for it, and one that has given all it
has says so in its heartbeat.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fairlead.training.watch import heartbeat
from fairlead.training.watch.heartbeat import Phase


class GradientExchange:
    """This process's side of the exchange."""

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self._buckets: dict[int, torch.Tensor] = {}
        self._begun: list[torch.futures.Future[Any]] = []

    def attach(self, ddp: DistributedDataParallel, backward: Callable[[], None]) -> None:
        """Take over the exchange of `ddp`, whose first passes settle its buckets.

        DDP orders its buckets anew after the first backward pass: the second one has those that stay.
        """
        if self._world_size > 1:
            ddp.register_comm_hook(None, self._exchange)
        for _ in range(2):
            self.begin()
            self._buckets.clear()
            backward()

    def begin(self) -> None:
        """Begin a step: nothing is exchanged yet."""
        self._begun.clear()

    def complete(self) -> None:
        """Exchange the buckets that are left, whatever they hold, after a backward pass has failed."""
        works = [dist.all_reduce(self._buckets[i], async_op=True) for i in range(len(self._begun), len(self._buckets))]
        heartbeat.mark(Phase.WAITING)
        for work in works:
            work.wait()
        for future in self._begun:
            future.wait()

    def _exchange(self, _state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        buffer = bucket.buffer()
        self._buckets[bucket.index()] = buffer
        future = dist.all_reduce(buffer.div_(self._world_size), async_op=True).get_future()
        self._begun.append(future)
        if bucket.is_last():
            heartbeat.mark(Phase.WAITING)
        mean: torch.futures.Future[torch.Tensor] = future.then(_first)
        return mean


def _first(future: torch.futures.Future[list[torch.Tensor]]) -> torch.Tensor:
    summed: torch.Tensor = future.value()[0]
    return summed
