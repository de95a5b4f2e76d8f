"""When a checkpoint is begun, and what every process does for it.

The first process has the state and writes; with sharded weights the others bring their shards, so that all of them have
to know of every checkpoint.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import torch

from fairlead.training.checkpoints.format import AGE, BLOCKED, Checkpoints, State
from fairlead.training.checkpoints.parts import Part
from fairlead.training.checkpoints.saving import Saver
from fairlead.training.checkpoints.tensor_file import take_part
from fairlead.training.config import TrainConfig
from fairlead.training.launching.distributed import Group
from fairlead.training.watch import heartbeat
from fairlead.training.watch.heartbeat import Phase
from fairlead.training.watch.metrics import MetricLog

# Below it a wait is the price of asking.
NOTICEABLE_SECONDS = 1e-4


class Keeper:
    """Keeps the checkpoints of a run; on leaving its block the last one is durable, or its failure is raised."""

    def __init__(
        self,
        config: TrainConfig,
        checkpoints: Checkpoints,
        parts: Mapping[str, Part],
        group: Group,
        log: MetricLog | None,
    ) -> None:
        """`log` takes what each checkpoint cost; the first process has one."""
        self._every, self._is_sharded = config.checkpoint_every_steps, config.parallel == "fsdp"
        self._parts, self._group, self._log = parts, group, log
        self._saver = Saver(checkpoints, parts, config.keep_checkpoints)
        # The step of the last checkpoint, and how long it held training up.
        self._saved = (0, 0.0)
        self._put_off = False

    def __enter__(self) -> Self:
        self._saver.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._saver.__exit__(kind, e, trace)

    def is_due(self, step: int) -> bool:
        """Whether to save after `step`, at every so many or as soon as the writer is free; every process asks."""
        due, ready = step % self._every == 0, False
        if self._group.is_first:
            self._saver.prepare()
            ready = self._saver.is_due(due)
        return self._agree(due, ready) if self._is_sharded else ready

    def save(self, state: State) -> None:
        """Begin the checkpoint of `state`, every process; waits for the one before."""
        self._put_off = False
        if not self._group.is_first:
            if self._is_sharded:
                self._bring_shards()
            return
        with heartbeat.marked(Phase.SAVING):
            blocked = self._saver.save(state)
        self._saved = (state.step, blocked)
        if self._log:
            self._log.add(state.step, {BLOCKED: blocked})

    def wait(self) -> None:
        """Wait until no checkpoint is being written; raises what kept the last one from it."""
        self._saver.wait()

    def wait_for_copy(self) -> None:
        """Leave the weights as they are until the checkpoint has them."""
        waited = self._saver.wait_for_copy()
        step, blocked = self._saved
        if self._log and waited > NOTICEABLE_SECONDS:
            self._log.add(step, {BLOCKED: blocked + waited})

    def sample(self) -> dict[str, float]:
        """Metrics of every few seconds, whether steps end or not."""
        return {AGE: self._saver.age}

    def _agree(self, due: bool, ready: bool) -> bool:
        """Whether the first process is ready to save: all have to know, to bring their shards."""
        self._put_off = self._put_off or due
        if not self._put_off:
            return False
        found = self._group.sum(torch.tensor(float(ready and self._group.is_first), device=self._group.device))
        self._put_off = not found
        return bool(found)

    def _bring_shards(self) -> None:
        """Do this process's share of a checkpoint that the first one fills (see Saver.save)."""
        with heartbeat.marked(Phase.SAVING):
            for part in self._parts.values():
                take_part(part.tensors())
