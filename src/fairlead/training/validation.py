"""Scores a model on the validation split, shared out over all processes and gathered exactly."""

from collections.abc import Callable, Iterator
from typing import cast

import torch

from fairlead.events import Progress
from fairlead.formats.tokens import TokenArrays
from fairlead.training.batching.batches import MicroBatch, Rows
from fairlead.training.batching.passes import Passes
from fairlead.training.launching.distributed import Group
from fairlead.training.objective.tasks import Task
from fairlead.training.watch import heartbeat
from fairlead.training.watch.heartbeat import Phase
from fairlead.training.watch.memory import in_parts


@torch.no_grad()
def validate(
    passes: Passes,
    task: Task,
    arrays: TokenArrays,
    pieces: list[Rows],
    group: Group,
    stop_requested: Callable[[], bool],
    in_step: bool = False,
) -> dict[str, float] | None:
    """The validation metrics, the same on every process and at any number of them; None when told to stop.

    They are computed as training computes: in its arithmetic, and without padding where it has none.

    Each process fills in its own rows of a table of zeros, so the sum over processes is the whole
    table without rounding. `in_step`: every process computes as many passes and stops in the same one, as a model
    needs whose weights are gathered for each.
    """
    # One row more counts the processes told to stop.
    table = torch.zeros(arrays.num_rows + 1, task.num_kept, dtype=torch.float32)
    own = pieces[group.rank :: group.world_size]
    progress = Progress("train", "validating", sum(map(len, own)), "rows")

    def score(rows: Rows, counts: bool = True) -> None:
        heartbeat.mark(Phase.VALIDATING)
        order, batch = passes.scoring_batch(arrays, rows)
        logits = passes.logits(passes.computing, batch)
        if counts:
            # Only tasks of whole texts have models that take a pack, and they read its labels alone.
            table[order] = task.keep(logits, cast(MicroBatch, batch)).float().cpu()

    passes.computing.eval()
    for rows, counts in _turns(pieces, group):
        if not (counts or in_step):
            continue
        if _told(stop_requested(), group, in_step):
            table[-1, 0] = 1
            break
        if in_step:
            # Who computed it in halves alone would be out of step.
            score(rows, counts)
        else:
            in_parts(rows, score)
        if counts and group.is_first:
            progress.advance(len(rows))
    passes.computing.train()
    whole = group.sum(table.to(group.device)).cpu().numpy()
    if whole[-1, 0] > 0:
        return None
    return task.scores(whole[:-1])


def _turns(pieces: list[Rows], group: Group) -> Iterator[tuple[Rows, bool]]:
    """The pieces of this process; where it has none left while others do, the smallest, which does not count."""
    for first in range(0, len(pieces), group.world_size):
        index = first + group.rank
        yield (pieces[index], True) if index < len(pieces) else (pieces[-1], False)


def _told(stop: bool, group: Group, in_step: bool) -> bool:
    """Whether to stop: this process alone, or all together when any is told."""
    return bool(group.sum(torch.tensor(float(stop), device=group.device))) if in_step else stop
