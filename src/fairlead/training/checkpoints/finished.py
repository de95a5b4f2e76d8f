"""The trained model of a finished run, kept beside its checkpoints' place.

It is kept so that a run that ended, but whose caller was killed before it noted so, gives the very
same model and record when it is started again.
"""

import shutil
from pathlib import Path

import torch
from torch import nn

from fairlead import provenance
from fairlead.errors import FairleadError
from fairlead.formats.digests import of_file
from fairlead.formats.model import WEIGHTS, TrainingRecord, read_training, write_training
from fairlead.formats.tokens import TOKENIZER, TokensManifest
from fairlead.names import MULTI_LABEL
from fairlead.training.checkpoints.format import State
from fairlead.training.launching.distributed import Group
from fairlead.training.launching.job import Job
from fairlead.training.models.outputs import class_thresholds

FINISHED = "finished"


def hardware(device: torch.device) -> str:
    """The hardware class: the GPU's name, or the processor's."""
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else provenance.hardware_class()


def write_finished(job: Job, tokens: TokensManifest, model: nn.Module, state: State, group: Group) -> None:
    """Write the model folder of a finished run; it appears whole or not at all."""
    folder = Path(job.folder)
    temporary = folder / f".writing-{FINISHED}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _save_model(model, temporary)
    shutil.copytree(Path(job.tokens) / TOKENIZER, temporary, dirs_exist_ok=True)
    thresholds = class_thresholds(model) if tokens.task == MULTI_LABEL else []
    write_training(temporary, _record(job, tokens, state, group, of_file(temporary / WEIGHTS), thresholds))
    shutil.rmtree(folder / FINISHED, ignore_errors=True)
    temporary.rename(folder / FINISHED)


def read_finished(folder: Path) -> TrainingRecord | None:
    """The record of the finished model under a run's folder; None when there is none or it is damaged."""
    try:
        record = read_training(folder / FINISHED)
        intact = of_file(folder / FINISHED / WEIGHTS) == record.weights_digest
    except (FairleadError, OSError):
        return None
    return record if intact else None


def copy_finished(folder: Path, output: Path) -> None:
    """Copy the finished model to where the stage leaves it; the record last."""
    output.mkdir(parents=True, exist_ok=True)
    record = read_training(folder / FINISHED)
    ignore = shutil.ignore_patterns("training.json")
    shutil.copytree(folder / FINISHED, output, dirs_exist_ok=True, ignore=ignore)
    write_training(output, record)


def _save_model(model: nn.Module, folder: Path) -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # One file, whose digest names the weights.
    model.save_pretrained(folder, max_shard_size="1TB")  # type: ignore[operator]


def _record(
    job: Job, tokens: TokensManifest, state: State, group: Group, weights_digest: str, thresholds: list[float]
) -> TrainingRecord:
    assert state.best is not None
    return TrainingRecord(
        run_id=job.run_id,
        project=job.project,
        data_digest=tokens.data_digest,
        tokens_digest=tokens.digest,
        weights_digest=weights_digest,
        task=tokens.task,
        labels=tokens.labels,
        thresholds=thresholds,
        max_length=tokens.max_length,
        config=job.sections(tokens.config),
        seed=job.training.seed,
        parent=job.parent,
        parent_version=job.parent_version,
        steps=state.step,
        best_step=state.best.step,
        validation=state.best.metrics,
        micro_batch_tokens=state.micro_batch_tokens,
        seconds=round(state.seconds, 3),
        environment=provenance.environment(hardware(group.device), group.world_size, job.threads),
        code=provenance.code(),
    )
