"""Checkpoints, in a folder and in S3: whole or absent, found newest first, pruned without losing the best."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from fairlead.errors import IntegrityError, StorageError
from fairlead.storage import ObjectStore, open_store
from fairlead.training.checkpoints.format import Best, Checkpoints, State, open_checkpoints
from fairlead.training.checkpoints.parts import ModelPart, OptimizerPart, Part
from fairlead.training.checkpoints.tensor_file import TensorFile


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A run's place in each kind of store."""
    if request.param == "folder":
        return open_store(str(request.getfixturevalue("tmp_path") / "run_1"))
    return open_store(request.getfixturevalue("s3_url") + "/checkpoints/run_1")


@pytest.fixture
def checkpoints(store: ObjectStore) -> Checkpoints:
    return Checkpoints(store)


def trained(steps: int = 2, name: str = "AdamW") -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
    return model, optimizer


def parts(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Part]:
    return {"model": ModelPart(model), "optimizer": OptimizerPart(optimizer)}


def content(part: Part) -> memoryview:
    file = TensorFile(part.tensors())
    file.fill(part.tensors())
    return file.content


def save(checkpoints: Checkpoints, step: int, best: int | None = None, steps: int = 2, name: str = "AdamW") -> None:
    best_of = Best(step=best, metrics={"loss": 1.0}) if best else None
    contents = {name: content(part) for name, part in parts(*trained(steps, name)).items()}
    checkpoints.write(State(step=step, best=best_of), contents)


def names(store: ObjectStore) -> list[str]:
    return [stat.key for stat in store.list("")]


def found_step(checkpoints: Checkpoints) -> int | None:
    found = checkpoints.newest()
    return found.state.step if found else None


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop", "Adagrad"])
def test_a_restored_optimizer_goes_on_exactly(checkpoints: Checkpoints, name: str) -> None:
    save(checkpoints, 2, name=name)
    model, optimizer = trained(0, name)
    contents = checkpoints.read(2).contents
    for part_name, part in parts(model, optimizer).items():
        part.load(load(contents[part_name]))
    optimizer.zero_grad()
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    assert torch.equal(model.weight, trained(3, name)[0].weight)


def test_a_checkpoint_is_two_tensor_files_and_a_state(checkpoints: Checkpoints, store: ObjectStore) -> None:
    save(checkpoints, 7)
    files = ["model.safetensors", "optimizer.safetensors", "state.json"]
    assert names(store) == [f"step-00000007/{file}" for file in files]


def test_a_half_written_checkpoint_does_not_exist(checkpoints: Checkpoints, store: ObjectStore) -> None:
    save(checkpoints, 5)
    store.put_bytes("step-00000009/model.safetensors", b"half")
    assert found_step(checkpoints) == 5
    save(checkpoints, 11)
    checkpoints.prune(2)
    assert not any("00000009" in name for name in names(store))


def test_what_a_killed_writer_left_is_removed_when_the_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run_1" / ".fairlead-unfinished"
    folder.mkdir(parents=True)
    (folder / "tmp1").write_bytes(b"half")
    open_checkpoints(str(folder.parent))
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["truncated", "changed", "missing"])
def test_damage_is_found_and_the_one_before_is_used(
    checkpoints: Checkpoints, store: ObjectStore, damage: str, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    save(checkpoints, 5)
    save(checkpoints, 9)
    key = f"step-00000009/{damage}"
    before = store.get_bytes(key)
    store.delete(key)
    if how != "missing":
        store.put_bytes(key, before[: len(before) // 2] if how == "truncated" else b"?" + before[1:])
    with pytest.raises(IntegrityError):
        checkpoints.read(9)
    assert found_step(checkpoints) == 5
    if (damage, how) != ("state.json", "missing"):
        # Without its state it was never complete, and nothing is to be said of it.
        assert "step-00000009" in capfd.readouterr().err
        assert "step-00000009/corrupt.json" in names(store)
    save(checkpoints, 12)
    checkpoints.prune(1)
    assert found_step(checkpoints) == 12


def test_a_checkpoint_whose_best_is_damaged_is_not_used(checkpoints: Checkpoints, store: ObjectStore) -> None:
    save(checkpoints, 2)
    save(checkpoints, 4, best=4)
    save(checkpoints, 6, best=4)
    store.delete("step-00000004/model.safetensors")
    assert found_step(checkpoints) == 2


def test_a_store_that_cannot_be_read_damages_nothing(
    checkpoints: Checkpoints, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoints, 3)
    before = names(store)

    def fail(key: str) -> bytes:
        raise StorageError(f"{key}: the network is away; run again")

    with monkeypatch.context() as patch:
        patch.setattr(store, "get_bytes", fail)
        with pytest.raises(StorageError):
            checkpoints.newest()
    assert names(store) == before and found_step(checkpoints) == 3


def test_pruning_keeps_the_newest_and_every_best_they_name(checkpoints: Checkpoints, store: ObjectStore) -> None:
    for step, best in ((2, 2), (4, 2), (6, 2), (8, 8), (10, 8)):
        save(checkpoints, step, best)
        checkpoints.prune(3)
    assert {name.partition("/")[0] for name in names(store)} == {f"step-{step:08d}" for step in (2, 6, 8, 10)}


def test_the_same_step_can_be_saved_again(checkpoints: Checkpoints) -> None:
    save(checkpoints, 3)
    save(checkpoints, 3, best=3)
    assert checkpoints.read(3).state.best == Best(step=3, metrics={"loss": 1.0})


def test_the_same_step_with_other_tensors_is_never_half_of_each(
    checkpoints: Checkpoints, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoints, 1)
    save(checkpoints, 3)
    put = store.put_bytes

    def killed(key: str, content: bytes) -> None:
        if "optimizer" in key:
            raise KeyboardInterrupt
        put(key, content)

    with monkeypatch.context() as patch:
        patch.setattr(store, "put_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            save(checkpoints, 3, steps=4)
    assert found_step(checkpoints) == 1
    save(checkpoints, 3, steps=4)
    assert found_step(checkpoints) == 3


def test_remove_all_leaves_nothing(checkpoints: Checkpoints, store: ObjectStore) -> None:
    save(checkpoints, 3)
    save(checkpoints, 4)
    store.put_bytes("step-00000004/state.json", b"?")
    checkpoints.newest()
    store.put_bytes("finished/config.json", b"kept")
    checkpoints.remove_all()
    assert names(store) == ["finished/config.json"]


def test_another_model_is_refused(checkpoints: Checkpoints) -> None:
    save(checkpoints, 3)
    with pytest.raises(IntegrityError, match="other tensors"):
        ModelPart(torch.nn.Linear(3, 2, bias=False)).load(load(checkpoints.read(3).contents["model"]))


def test_a_tensor_file_is_read_as_it_was_whatever_its_types() -> None:
    tensors = {
        "half": torch.arange(3).to(torch.bfloat16),
        "whole": torch.arange(6, dtype=torch.int64).view(2, 3).T,
        "flag": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 4),
        "number": torch.tensor(0.5, dtype=torch.float64),
    }
    file = TensorFile(tensors)
    file.fill(tensors)
    read = load(bytes(file.content))
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) and read[name].dtype == tensors[name].dtype for name in tensors)
    assert json.loads(bytes(file.content)[8:].partition(b"}}")[0] + b"}}")["flag"]["dtype"] == "BOOL"


def test_a_tensor_file_is_filled_again_in_place() -> None:
    file = TensorFile({"a": torch.zeros(4)})
    file.fill({"a": torch.ones(4)})
    content = file.content
    file.fill({"a": torch.full((4,), 2.0)})
    assert load(bytes(content))["a"].tolist() == [2.0] * 4
    assert not file.fits({"a": torch.zeros(5)}) and not file.fits({"b": torch.zeros(4)})
