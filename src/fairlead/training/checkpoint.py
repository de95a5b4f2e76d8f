"""Checkpoints of a run: a folder a step, complete or absent, checked by digest before use.

    step-00000120/
        model.safetensors        weights and buffers
        optimizer.safetensors    the optimizer's tensors, `<parameter index>.<name>`
        state.json               State, with the SHA-256 of the two; written last

A folder is written under a temporary name, flushed to disk and renamed. Nothing is pickled. There
is no random state: it is a function of the step (fairlead.training.batches).
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fairlead.config import Config
from fairlead.errors import FairleadError, IntegrityError
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import of_file

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
PREFIX, TEMPORARY, CORRUPT = "step-", ".writing-", ".corrupt"


class Best(Config):
    """The best validation so far."""

    step: int
    """Its step; the checkpoint of that step is kept."""
    metrics: dict[str, float]
    """Its validation metrics."""


class State(Config):
    """Where a run stands, but for its tensors."""

    format: int = 1
    """Version of this format."""
    step: int = 0
    """Steps done."""
    validated: bool = True
    """False when the step is due for a validation that was interrupted."""
    best: Best | None = None
    """None before the first validation."""
    validations_without_gain: int = 0
    """Validations since the best one."""
    stopped_early: bool = False
    """Whether patience ran out at this step."""
    seconds: float = 0.0
    """Wall time of training up to this step, restarts not counted."""
    points: list[tuple[str, int, float | None, float]] = Field(default_factory=list)
    """Metrics of steps done that the registry had not got yet: name, step, value (None for NaN) and time."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 by file name."""


def step_folder(folder: Path, step: int) -> Path:
    """The checkpoint of `step`."""
    return folder / f"{PREFIX}{step:08d}"


def save(folder: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the checkpoint of `state.step`; it appears whole or not at all."""
    target = step_folder(folder, state.step)
    temporary = folder / f"{TEMPORARY}{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _write_tensors(temporary / MODEL, _model_tensors(model))
    _write_tensors(temporary / OPTIMIZER, _optimizer_tensors(optimizer))
    files = {name: of_file(temporary / name) for name in (MODEL, OPTIMIZER)}
    write_json(temporary / STATE, state.model_copy(update={"files": files}).to_dict())
    _flush(temporary)
    if target.exists():  # the same step again, after an interrupted validation
        old = folder / f"{TEMPORARY}old-{target.name}"
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old)
    else:
        temporary.rename(target)
    _flush(folder)


def restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the tensors of the checkpoint at `path` into a model and an optimizer built the same way."""
    restore_model(path, model)
    tensors = load_file(path / OPTIMIZER)
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        states.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def restore_model(path: Path, model: nn.Module) -> None:
    """Load the weights of the checkpoint at `path` into a model built the same way."""
    tensors, own = load_file(path / MODEL), _model_tensors(model)
    if tensors.keys() != own.keys():
        raise IntegrityError(f"{path}: it holds other tensors than the model; remove its folder and train again")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def newest(folder: Path) -> State | None:
    """The state of the newest checkpoint that is intact, as is the best one that it names; None without any.

    Damaged checkpoints are named in the log and set aside as `<name>.corrupt`.
    """
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for step in sorted(_steps(folder), reverse=True):
        path = step_folder(folder, step)
        try:
            state = verify(path)
            if state.best and state.best.step != step:
                verify(step_folder(folder, state.best.step))
            return state
        except IntegrityError as error:
            _set_aside(path, error)
    return None


def verify(path: Path) -> State:
    """The state of the checkpoint at `path`. Raises IntegrityError when a file is missing or differs."""
    try:
        state = State.model_validate(json.loads((path / STATE).read_text("utf-8")))
        for name in (MODEL, OPTIMIZER):
            if of_file(path / name) != state.files[name]:
                raise IntegrityError(f"{path / name}: it differs from the digest in {STATE}; an older one is used")
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise IntegrityError(f"{path}: it is incomplete ({type(error).__name__}); an older one is used") from error
    return state


def prune(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep` and the best ones that these name."""
    kept = set(sorted(_steps(folder))[-keep:])
    for step in list(kept):
        try:
            best = State.model_validate(json.loads((step_folder(folder, step) / STATE).read_text("utf-8"))).best
        except (OSError, ValueError):
            continue
        kept |= {best.step} if best else set()
    for step in set(_steps(folder)) - kept:
        shutil.rmtree(step_folder(folder, step))


def remove_all(folder: Path) -> None:
    """Remove every checkpoint of a finished run, those set aside included."""
    for path in (*folder.glob(f"{PREFIX}*"), *folder.glob(f"{TEMPORARY}*")):
        shutil.rmtree(path, ignore_errors=True)


def _steps(folder: Path) -> Iterator[int]:
    for path in folder.glob(f"{PREFIX}*"):
        if path.is_dir() and path.name.removeprefix(PREFIX).isdigit():
            yield int(path.name.removeprefix(PREFIX))


def _set_aside(path: Path, error: FairleadError) -> None:
    aside = path.with_name(path.name + CORRUPT)
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    print(f"warning: {error}; the damaged one is set aside as {aside.name}", file=sys.stderr, flush=True)


def _model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and saved buffers by name; a tensor that has two names (tied weights) under the first."""
    tensors, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            tensors[name] = tensor
            seen.add(tensor.data_ptr())
    return tensors


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # The library hides the operating system's reason, nearly always a full disk, in its message.
        raise OSError(f"the checkpoint could not be written ({error})") from error
    _flush(path)


def _flush(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
