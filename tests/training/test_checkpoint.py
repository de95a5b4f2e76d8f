"""Checkpoints: whole or absent, found newest first, pruned without losing the best."""

from pathlib import Path

import pytest
import torch

from fairlead.errors import IntegrityError
from fairlead.training import checkpoint
from fairlead.training.checkpoint import Best, State


def trained(steps: int = 2, name: str = "AdamW") -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
    return model, optimizer


def save(folder: Path, step: int, best: int | None = None) -> None:
    best_of = Best(step=best, metrics={"loss": 1.0}) if best else None
    checkpoint.save(folder, State(step=step, best=best_of), *trained())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop", "Adagrad"])
def test_a_restored_optimizer_goes_on_exactly(tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path, State(step=2), *trained(2, name))
    model, optimizer = trained(0, name)
    checkpoint.restore(checkpoint.step_folder(tmp_path, 2), model, optimizer)
    optimizer.zero_grad()
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    assert torch.equal(model.weight, trained(3, name)[0].weight)


def test_nothing_is_pickled_and_nothing_temporary_stays(tmp_path: Path) -> None:
    save(tmp_path, 7)
    assert names(tmp_path) == ["step-00000007"]
    assert names(tmp_path / "step-00000007") == ["model.safetensors", "optimizer.safetensors", "state.json"]


def test_a_half_written_checkpoint_does_not_exist(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (tmp_path / ".writing-step-00000009").mkdir()
    (tmp_path / ".writing-step-00000009" / "model.safetensors").write_bytes(b"half")
    state = checkpoint.newest(tmp_path)
    assert state is not None and state.step == 5 and names(tmp_path) == ["step-00000005"]


@pytest.mark.parametrize("damage", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["truncated", "changed", "missing"])
def test_damage_is_found_and_the_one_before_is_used(tmp_path: Path, damage: str, how: str) -> None:
    save(tmp_path, 5)
    save(tmp_path, 9)
    path = tmp_path / "step-00000009" / damage
    content = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"?" + content[1:])
    with pytest.raises(IntegrityError):
        checkpoint.verify(path.parent)
    state = checkpoint.newest(tmp_path)
    assert state is not None and state.step == 5
    assert names(tmp_path) == ["step-00000005", "step-00000009.corrupt"]


def test_a_checkpoint_whose_best_is_damaged_is_not_used(tmp_path: Path) -> None:
    save(tmp_path, 2)
    save(tmp_path, 4, best=4)
    save(tmp_path, 6, best=4)
    (tmp_path / "step-00000004" / "model.safetensors").unlink()
    state = checkpoint.newest(tmp_path)
    assert state is not None and state.step == 2


def test_pruning_keeps_the_newest_and_every_best_they_name(tmp_path: Path) -> None:
    for step, best in ((2, 2), (4, 2), (6, 2), (8, 8), (10, 8)):
        save(tmp_path, step, best)
        checkpoint.prune(tmp_path, 3)
    assert names(tmp_path) == [f"step-{step:08d}" for step in (2, 6, 8, 10)]


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save(tmp_path, 3, best=3)
    assert checkpoint.verify(tmp_path / "step-00000003").best == Best(step=3, metrics={"loss": 1.0})
    assert names(tmp_path) == ["step-00000003"]


def test_another_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 3)
    with pytest.raises(IntegrityError, match="other tensors"):
        checkpoint.restore_model(tmp_path / "step-00000003", torch.nn.Linear(3, 2, bias=False))
