"""The saver: beside training, never dropping a checkpoint, never silent about one that fails."""

import threading
import time
from collections.abc import Mapping

import pytest
import torch
from safetensors.torch import load

from fairlead.errors import ConfigError, StorageError
from fairlead.storage import open_store
from fairlead.training.checkpoints import saving
from fairlead.training.checkpoints.format import Checkpoints, State
from fairlead.training.checkpoints.saving import Saver


class Counter:
    """A part whose tensor says which step it is."""

    def __init__(self) -> None:
        self.value = torch.zeros(3)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"value": self.value}

    def passing(self) -> frozenset[str]:
        return frozenset()

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.value.copy_(tensors["value"])


class Gate(Checkpoints):
    """Checkpoints whose writing waits for the test, and fails when it says so."""

    def __init__(self, folder: object) -> None:
        super().__init__(open_store(str(folder)))
        self.open, self.entered, self.tries = threading.Event(), threading.Event(), 0
        self.failures: list[Exception] = []

    def write(self, state: State, contents: Mapping[str, memoryview | bytes]) -> None:
        self.tries += 1
        self.entered.set()
        assert self.open.wait(30)
        if self.failures:
            raise self.failures.pop(0)
        super().write(state, contents)


@pytest.fixture
def gate(tmp_path: object) -> Gate:
    return Gate(tmp_path)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "SECONDS_BETWEEN_TRIES", 0.01)


def full() -> StorageError:
    return StorageError("/disk: the disk is full; free space, then run again")


def test_training_goes_on_and_changes_its_tensors_while_a_checkpoint_is_written(gate: Gate) -> None:
    part = Counter()
    with Saver(gate, {"part": part}, keep=2) as saver:
        time.sleep(0.5)
        part.value.fill_(1.0)
        saver.save(State(step=1))
        saver.wait_for_copy()
        part.value.fill_(2.0)
        assert gate.entered.wait(30)
        assert saver.is_busy and gate.newest() is None
        # What is being written is not durable yet; when it is, its age is that of the state that it holds.
        time.sleep(0.01)
        before = saver.age
        gate.open.set()
        saver.wait()
        assert saver.age < before
        saved = gate.read(1).contents
        part.load(load(saved["part"]))
        assert part.value.tolist() == [1.0] * 3


def test_a_checkpoint_due_while_one_is_written_is_put_off_not_dropped(gate: Gate) -> None:
    with Saver(gate, {"part": Counter()}, keep=5) as saver:
        assert not saver.is_due(False)
        assert saver.is_due(True)
        saver.save(State(step=10))
        assert not saver.is_due(True)
        gate.open.set()
        saver.wait()
        # The step after is not due by itself.
        assert saver.is_due(False)
        saver.save(State(step=21))
    assert {gate.read(step).state.step for step in (10, 21)} == {10, 21}


def test_one_that_must_be_written_waits_for_the_one_before(gate: Gate) -> None:
    with Saver(gate, {"part": Counter()}, keep=5) as saver:
        saver.save(State(step=1))
        assert gate.entered.wait(30)
        threading.Timer(0.1, gate.open.set).start()
        assert saver.save(State(step=2)) >= 0.05
    assert gate.read(1) and gate.read(2)


def test_leaving_makes_the_last_one_durable(gate: Gate) -> None:
    gate.open.set()

    def fail() -> None:
        with Saver(gate, {"part": Counter()}, keep=5) as saver:
            saver.save(State(step=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert gate.read(1)


def test_a_failure_is_warned_of_once_and_tried_again(gate: Gate, capfd: pytest.CaptureFixture[str]) -> None:
    gate.open.set()
    gate.failures = [full(), full(), full()]
    with Saver(gate, {"part": Counter()}, keep=5) as saver:
        saver.save(State(step=7))
        while saver.is_busy:
            assert saver.is_due(False) is False
    assert gate.read(7) and gate.tries == 4
    told = capfd.readouterr().err
    assert told.count("the disk is full") == 1 and "checkpoint of step 7 is tried again" in told


def test_what_must_be_written_and_cannot_be_ends_the_run(gate: Gate) -> None:
    gate.open.set()
    gate.failures = [full() for _ in range(100_000)]
    with pytest.raises(StorageError, match="disk is full"):
        save_twice(gate)


def save_twice(gate: Gate) -> None:
    with Saver(gate, {"part": Counter()}, keep=5) as saver:
        saver.save(State(step=7))
        saver.save(State(step=8))
        pytest.fail("the first one was not written")


def test_the_end_of_the_run_fails_with_its_last_checkpoint(gate: Gate) -> None:
    gate.open.set()
    gate.failures = [full() for _ in range(100_000)]
    with pytest.raises(StorageError, match="disk is full"), Saver(gate, {"part": Counter()}, keep=5) as saver:
        saver.save(State(step=7))


def test_a_mistake_of_the_user_is_not_tried_again(gate: Gate) -> None:
    gate.open.set()
    gate.failures = [ConfigError("s3://nowhere: there is no such bucket; make it")]
    saver = Saver(gate, {"part": Counter()}, keep=5)
    saver.save(State(step=7))
    while saver.is_busy:
        pass
    with pytest.raises(ConfigError, match="no such bucket"):
        saver.is_due(False)
    assert gate.tries == 1


def test_memory_for_the_copy_is_made_beside_training_once(gate: Gate) -> None:
    gate.open.set()
    with Saver(gate, {"part": Counter()}, keep=5) as saver:
        saver.prepare()
        saver.wait()
        buffer = saver._files["part"]
        saver.prepare()
        saver.save(State(step=1))
        saver.save(State(step=2))
        assert saver._files["part"] is buffer


class Mixed:
    """A part of which a forward pass changes one tensor and an update the other; the copy of the latter is slow."""

    def __init__(self) -> None:
        self.buffer, self.weight = torch.zeros(3), torch.zeros(1 << 22)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"buffer": self.buffer, "weight": self.weight}

    def passing(self) -> frozenset[str]:
        return frozenset({"buffer"})

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


def test_what_a_forward_pass_changes_is_copied_at_once_and_weights_before_the_update(gate: Gate) -> None:
    part = Mixed()
    gate.open.set()
    with Saver(gate, {"part": part}, keep=9) as saver:
        for step in range(1, 9):
            part.buffer.fill_(step)
            part.weight.fill_(step)
            saver.save(State(step=step))
            # The next forward pass.
            part.buffer.fill_(-1.0)
            saver.wait_for_copy()
            # The next update.
            part.weight.fill_(-1.0)
            saver.wait()
            saved = load(gate.read(step).contents["part"])
            assert torch.equal(saved["buffer"], torch.full((3,), float(step)))
            assert torch.equal(saved["weight"], torch.full((1 << 22,), float(step)))
