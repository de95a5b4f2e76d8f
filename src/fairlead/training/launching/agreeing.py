"""What `auto` means where machines train together: only they know their devices, and all have to compute alike.

The step that asks for several machines is a thin pod without their devices, so it hands `auto` on. Every process looks
at its own device, and the faster way is taken where it is the faster one on all of them. What was settled is noted
beside the checkpoints and kept by a run that goes on, on other machines perhaps: it computes as it began.
"""

import json

import torch

from fairlead.training.checkpoints.format import Checkpoints
from fairlead.training.config import TrainConfig
from fairlead.training.launching.distributed import Group
from fairlead.training.precision import resolve, resolve_compile

NOTE = "settled.json"
AUTO = "auto"
# What is taken only where every process would take it, and what is taken otherwise.
FASTER = {"precision": ("bf16", "fp32"), "compile": ("on", "off")}


def agree(config: TrainConfig, num_steps: int, group: Group, checkpoints: Checkpoints) -> TrainConfig:
    """`config` with `auto` replaced by what is fast on the devices of all processes; the same on each of them."""
    unsettled = [name for name in FASTER if getattr(config, name) == AUTO]
    if not unsettled:
        return config
    here = resolve_compile(resolve(config, group.device), group.device, num_steps)
    votes = [float(getattr(here, name) == FASTER[name][0]) for name in unsettled]
    total = group.sum(torch.tensor(votes, dtype=torch.float64, device=group.device)).tolist()
    found = {
        name: FASTER[name][0 if votes_for == group.world_size else 1]
        for name, votes_for in zip(unsettled, total, strict=True)
    }
    told = group.broadcast(json.dumps(_kept(found, checkpoints)).encode() if group.is_first else b"")
    settled = json.loads(told)
    if group.is_first:
        print(f"train: on {group.world_size} processes, auto is {settled}", flush=True)
    return config.model_copy(update=settled)


def _kept(found: dict[str, str], checkpoints: Checkpoints) -> dict[str, str]:
    """What the run began with, where it goes on; else `found`, which is noted."""
    before = checkpoints.read_note(NOTE) if checkpoints.steps() else {}
    settled = found | {name: before[name] for name in found if before.get(name) in FASTER[name]}
    checkpoints.write_note(NOTE, settled)
    return settled
