"""Sweeps the learning rate: `python -m fairlead.training.sweep.range_test <job.json> <result.json>`.

It is the training loop itself, in one process on one device, with another rate a step: batches, loss, precision,
clipping and rates by layer are those of a run. The model is built afresh and thrown away; neither a checkpoint
nor a line in the registry is left.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from fairlead.config import Config
from fairlead.errors import FairleadError, NumericalError
from fairlead.events import Progress
from fairlead.formats import tokens as token_format
from fairlead.formats.atomic import write_json
from fairlead.names import SCRATCH
from fairlead.registry.fetching import fetch_base
from fairlead.training.batching.blocks import open_rows
from fairlead.training.checkpoints.format import open_checkpoints
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching import distributed
from fairlead.training.launching.distributed import Group
from fairlead.training.loop import Loop
from fairlead.training.models.building import build_model
from fairlead.training.models.layout import check_layout
from fairlead.training.objective.tasks import Splits
from fairlead.training.precision import check_device, resolve
from fairlead.training.sweep.range_curve import RangeCurve, RunningMean, judge, rate_of

STAGE = "lr-find"


class RangeJob(Config):
    """What a sweep needs to know."""

    tokens: str
    """Folder of the tokenized data version."""
    model: ModelConfig
    """Which model."""
    training: TrainConfig
    """How it would be trained."""
    steps: int
    """Steps from the lowest to the highest rate."""
    lowest: float
    """First learning rate."""
    highest: float
    """Last learning rate."""
    picture: str | None = None
    """Where the curve is drawn; its extension says as what."""


class RangeLoop(Loop):
    """A loop whose learning rate grows from step to step."""

    def sweep(self, lowest: float, highest: float) -> RangeCurve:
        """Train through all rates, or until the loss bursts."""
        self._lowest, self._highest = lowest, highest
        progress = Progress(STAGE, "learning-rate range test", self.plan.num_steps, "steps")
        rates: list[float] = []
        losses: list[float] = []
        mean = RunningMean()
        for step in range(1, self.plan.num_steps + 1):
            try:
                self._step(step, progress)
            except NumericalError:  # the loss or the gradient is not a number
                return judge(rates, losses, self._rate(step))
            if mean.has_burst(mean.add(self.loss)):
                return judge(rates, losses, self._rate(step))
            rates.append(self._rate(step))
            losses.append(self.loss)
        return judge(rates, losses, None)

    def _rate(self, step: int) -> float:
        return rate_of(step, self.plan.num_steps, self._lowest, self._highest)


def run(job: RangeJob) -> RangeCurve:
    """Sweep once, on a model of its own."""
    torch.set_num_threads(distributed.num_threads(job.training, 1))
    torch.use_deterministic_algorithms(True)
    folder = Path(job.tokens)
    manifest = token_format.read_manifest(folder)
    config = resolve(_settings(job), distributed.device_here())
    check_device(config, distributed.device_here())
    train, validation = (open_rows(folder, manifest, name, config) for name in ("train", "validation"))
    base = _base(job.model)
    torch.manual_seed(job.training.seed)
    model = build_model(job.model, manifest, base)
    device = distributed.device_here()
    dist.init_process_group(distributed.backend(device), store=dist.HashStore(), rank=0, world_size=1)
    group = Group(0, 1, device)
    splits = Splits(train, validation, manifest.pad_token_id, manifest.task)
    with tempfile.TemporaryDirectory(prefix="fairlead-range-") as empty:
        loop = RangeLoop(_long_enough(config, train.num_rows), model, splits, group, open_checkpoints(empty))
        curve = loop.sweep(job.lowest, job.highest)
    if job.picture:
        from fairlead.training.sweep.range_picture import draw

        draw(curve, Path(job.picture))
    return curve


def read_range_job(path: Path) -> RangeJob:
    """Read what `write_json(path, job.to_dict())` wrote."""
    return RangeJob.parse(json.loads(path.read_text("utf-8")), where=str(path))


def main(arguments: list[str]) -> int:
    """Run the job of the first file and write the curve, or the error, to the second."""
    source, target = map(Path, arguments)
    try:
        written: dict[str, Any] = {"curve": run(read_range_job(source)).to_dict()}
    except FairleadError as error:
        written = {"kind": type(error).__name__, "message": str(error)}
    write_json(target, written)
    return 0


def _base(model: ModelConfig) -> Path | None:
    if model.base == SCRATCH:
        return None
    base = fetch_base(model.base, stage=STAGE).folder
    check_layout(base)
    return base


def _settings(job: RangeJob) -> TrainConfig:
    """Those of the run, for the steps of the sweep; an average of the weights would cost time for nothing."""
    return job.training.model_copy(update={"max_steps": job.steps, "ema_decay": None})


def _long_enough(config: TrainConfig, num_rows: int) -> TrainConfig:
    """With as many passes over the rows as the steps take."""
    assert config.max_steps is not None
    return config.model_copy(update={"epochs": -(-config.max_steps * config.batch_size // num_rows)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
