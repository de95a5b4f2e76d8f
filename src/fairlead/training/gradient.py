"""The gradient of a global batch: summed over passes that fit into memory, and over processes.

The loss of a step is the sum of its global batch's losses (a row's or a predicted token's, as the task has
it) divided by their number, whatever the number of processes W: each process sums over its own passes, and
DDP averages over processes, so every term is multiplied by W.
"""

import contextlib
import warnings
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fairlead.training.batching.batches import MicroBatch, Rows
from fairlead.training.batching.passes import Pass, Passes
from fairlead.training.launching.distributed import Group
from fairlead.training.models.headnorm import HeadNorms
from fairlead.training.objective.tasks import Task
from fairlead.training.updates.gradients import GradientExchange
from fairlead.training.updates.scaling import LossScale
from fairlead.training.watch import heartbeat
from fairlead.training.watch.figures import Figures
from fairlead.training.watch.heartbeat import Phase
from fairlead.training.watch.memory import MicroBatchBudget, release


class Losses:
    """The loss of single passes of a run."""

    def __init__(self, passes: Passes, task: Task, figures: Figures) -> None:
        self.passes, self.task, self.figures = passes, task, figures

    def of(self, network: nn.Module, step: int, of: Pass) -> torch.Tensor:
        """The summed loss of the texts of a pass, by `network` (the run's, or what wraps it)."""
        with self.figures.waiting():
            batch = self.passes.batch(step, of)
        logits = self.passes.logits(network, batch)
        # Only tasks of whole texts have models that take a pack, and they read its labels alone.
        return self.task.losses(logits, cast(MicroBatch, batch)).sum()

    def of_one(self, network: nn.Module) -> torch.Tensor:
        """The loss of one text, for what needs a gradient but not its value."""
        return self.of(network, 0, self.one)

    @property
    def one(self) -> Pass:
        """A pass of one text."""
        return Pass([(0, np.arange(1))])

    def freeze_unreached(self, model: nn.Module) -> None:
        """Freeze weights that the loss does not depend on (a pooler that the head ignores): DDP would wait for them."""
        torch.autograd.backward(self.of_one(self.passes.computing))
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.grad is not None)
        model.zero_grad(set_to_none=True)


class Gradient:
    """Adds the gradients of global batches to a model's weights."""

    def __init__(
        self, losses: Losses, scaling: LossScale, norms: HeadNorms, group: Group, tokens: int, sharded: bool
    ) -> None:
        """`tokens` is what a pass takes at most until memory runs out; `sharded` weights have their own exchange."""
        self._losses, self._scaling, self._norms, self._group = losses, scaling, norms, group
        self._passes, self._figures = losses.passes, losses.figures
        self.num_computed = 0
        """Tokens of the last global batch that all processes computed, padding included."""
        self._exchange = None if sharded else GradientExchange(group.world_size)
        self.budget = MicroBatchBudget(tokens, self._exchange)
        self._passes.budget = self.budget.tokens
        self._parallel = self._wrap()

    def attempt(self, step: int, rows: Rows) -> tuple[float, bool]:
        """This process's share of the loss of the batch `rows`, and whether its passes did fit into memory."""
        return self.budget.attempt(partial(self.add, step, rows))

    def add(self, step: int, rows: Rows) -> float:
        """Add this process's share of the gradient; the sum of its losses."""
        with self._figures.waiting():
            plan = self._passes.plan(rows, self._group.world_size)
        self.num_computed = self._passes.computed_tokens(plan)
        own, num_rounds, total = plan[self._group.rank], max(map(len, plan)), 0.0
        num_terms = self._losses.task.num_terms(rows)
        self._norms.begin()
        for turn in range(num_rounds):
            heartbeat.mark(Phase.COMPUTING)
            with self._without_exchange(turn < num_rounds - 1):
                self._norms.count(turn < len(own))
                if turn < len(own):
                    loss = self._losses.of(self._parallel, step, own[turn])
                    total += float(loss.detach())
                else:
                    # Every process is waited for: one without a pass adds a gradient of zero.
                    loss = self._losses.of(self._parallel, step, self._losses.one) * 0.0
                torch.autograd.backward(self._scaling.scale(loss * (self._group.world_size / num_terms)))
        return total

    def shrink(self, step: int, rows: Rows) -> None:
        """Make ready to compute a batch again, which did not fit into memory, in smaller micro-batches."""
        # DDP cannot go on after a backward pass that failed.
        del self._parallel
        release()
        self.budget.halve(step, rows, self._passes.lengths, self._group.is_first)
        self._passes.budget = self.budget.tokens
        self._parallel = self._wrap()

    def _without_exchange(self, wanted: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients are exchanged once, in the backward pass of the last round; of sharded ones no sum can be kept."""
        if wanted and isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return contextlib.nullcontext()

    def _wrap(self) -> nn.Module:
        """The network as processes compute it together: cut up already, or in DDP, with its buckets settled.

        DDP orders its buckets anew after the first backward pass, and with three processes or more
        the order decides how sums are rounded. Passes of zero settle the order, so that a
        resumed run sums as one that was never interrupted.
        """
        if self._exchange is None:
            return self._passes.computing
        device = self._group.device
        with warnings.catch_warnings():
            # Newer torch would have it named forward_sync_buffers, which older torch does not know.
            warnings.simplefilter("ignore", FutureWarning)
            ddp = DistributedDataParallel(
                self._passes.computing,
                device_ids=[device.index] if device.type == "cuda" else None,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )
        self._exchange.attach(ddp, lambda: torch.autograd.backward(self._losses.of_one(ddp) * 0.0))
        return ddp
