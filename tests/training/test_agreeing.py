"""`auto` is settled by all processes together, and stays what it was when a run goes on."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fairlead.training import precision
from fairlead.training.checkpoints.format import State, open_checkpoints
from fairlead.training.config import TrainConfig
from fairlead.training.launching.agreeing import agree
from fairlead.training.launching.distributed import Group


@dataclass(frozen=True)
class Beside(Group):
    """This process beside one that is for the faster way (1) or not (0) in everything."""

    other: float = 1.0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + self.other

    def broadcast(self, content: bytes) -> bytes:
        return content


def beside(other: float) -> Group:
    return Beside(0, 2, torch.device("cpu"), other)


def test_the_faster_way_is_taken_where_all_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: True)
    config, checkpoints = TrainConfig(precision="auto"), open_checkpoints(str(tmp_path))
    settled = [agree(config, 10, beside(other), checkpoints) for other in (1.0, 0.0)]
    assert [(each.precision, each.compile) for each in settled] == [("bf16", "off"), ("fp32", "off")]
    assert agree(TrainConfig(precision="fp32", compile="on"), 10, beside(0.0), checkpoints).compile == "on"


def test_a_run_that_goes_on_computes_as_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: True)
    config, checkpoints = TrainConfig(precision="auto"), open_checkpoints(str(tmp_path))
    assert agree(config, 10, beside(1.0), checkpoints).precision == "bf16"
    checkpoints.write(State(step=1), {})
    assert agree(config, 10, beside(0.0), checkpoints).precision == "bf16", "on slower machines, too"
    checkpoints.remove_all()
    assert agree(config, 10, beside(0.0), checkpoints).precision == "fp32", "a run that starts afresh"
