"""What is said when the loss or the gradient is not a number: which rows, and where to go on from.

The step is not taken, so the weights are still those that gave the trouble: each row of its batch is
computed once more, alone and without dropout, and those whose loss is not finite are named with the
place in the source that they came from. The whole batch goes to `trouble-step-<step>.json` beside the
checkpoints of the run.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import nn

from fairlead.errors import FairleadError, NumericalError
from fairlead.formats import dataset
from fairlead.training.batching.batches import Rows
from fairlead.training.checkpoints.format import Checkpoints

# Rows that a sentence names; the file has them all.
NAMED_ROWS = 3


@dataclass(frozen=True)
class Trouble:
    """A step whose loss or gradient is not finite."""

    step: int
    rows: Rows
    loss: float
    norm: float

    @property
    def is_real(self) -> bool:
        """Whether something is not finite."""
        return not (math.isfinite(self.loss) and math.isfinite(self.norm))

    @property
    def what(self) -> str:
        """`the loss is nan`."""
        if not math.isfinite(self.loss):
            return f"the loss is {self.loss}"
        return f"the gradient's norm is {self.norm}"


def error_of(
    trouble: Trouble,
    model: nn.Module,
    row_loss: Callable[[Rows], torch.Tensor],
    checkpoints: Checkpoints,
    data: Path | None,
    is_first: bool,
) -> NumericalError:
    """The error to raise, the same in every process; the first one writes the file.

    `row_loss` gives the loss of one row with `model`; `data` is the folder of the data version, if it is at hand.
    """
    losses = _losses(trouble.rows, model, row_loss)
    places = origins(data, trouble.rows)
    guilty = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
    good = last_good(checkpoints)
    name = f"trouble-step-{trouble.step:08d}.json"
    if is_first:
        checkpoints.write_note(name, _report(trouble, losses, places, good))
    return NumericalError(
        f"train: {trouble.what} at step {trouble.step}; {_blame(trouble.rows, guilty, places)}; "
        f"{_kept(good, checkpoints)}; its batch is listed in {checkpoints.url}/{name}; "
        f"{_way_out(len(guilty), len(losses))}"
    )


def origins(data: Path | None, rows: Rows) -> list[str]:
    """`<source> line <line>` of rows of the training split; empty texts where the data version is not at hand."""
    if data is None:
        return [""] * len(rows)
    try:
        return [f"{source} line {line}" for source, line in dataset.read_origins(data, dataset.TRAIN, rows)]
    except (OSError, ValueError, KeyError):
        return [""] * len(rows)


def last_good(checkpoints: Checkpoints) -> str | None:
    """Address of the newest checkpoint all of whose weights are finite; None without any."""
    for step in reversed(checkpoints.steps()):
        with contextlib.suppress(FairleadError):
            weights = load(checkpoints.read(step).contents["model"]).values()
            if all(bool(tensor.isfinite().all()) for tensor in weights):
                return checkpoints.address(step)
    return None


@torch.no_grad()
def _losses(rows: Rows, model: nn.Module, row_loss: Callable[[Rows], torch.Tensor]) -> list[float]:
    model.eval()
    losses = [float(row_loss(rows[index : index + 1])) for index in range(len(rows))]
    model.train()
    return losses


def _report(trouble: Trouble, losses: Sequence[float], places: Sequence[str], good: str | None) -> dict[str, Any]:
    batch = [
        {"row": int(row), "from": place or None, "loss": loss if math.isfinite(loss) else str(loss)}
        for row, loss, place in zip(trouble.rows, losses, places, strict=True)
    ]
    numbers = {"loss": str(trouble.loss), "gradient_norm": str(trouble.norm)}
    return {
        "step": trouble.step,
        **numbers,
        "last_good": good and good.rpartition("/")[2],
        "split": "train",
        "batch": batch,
    }


def _blame(rows: Rows, guilty: Sequence[int], places: Sequence[str]) -> str:
    if not guilty:
        return f"no one of its {len(rows)} rows gives that alone"
    if len(guilty) == len(rows) > 1:
        return f"all of its {len(rows)} rows give that, so that it is the weights that are at fault"
    named = [f"{rows[i]}" + (f" ({places[i]})" if places[i] else "") for i in guilty[:NAMED_ROWS]]
    more = f" and {len(guilty) - NAMED_ROWS} more" if len(guilty) > NAMED_ROWS else ""
    return f"it comes from row {', '.join(named)}{more} of 'train'"


def _kept(good: str | None, checkpoints: Checkpoints) -> str:
    return f"the last good checkpoint is {good}" if good else f"{checkpoints.url} has no checkpoint from before"


def _way_out(num_guilty: int, num_rows: int) -> str:
    if 0 < num_guilty < num_rows:
        return "look at these rows, or lower training.learning_rate"
    return "lower training.learning_rate or set training.gradient_clip, and check the base model's weights"
