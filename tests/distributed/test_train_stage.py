"""The train stage in real processes: repeatable, the same at any number of them, and hard to kill.

Each run costs seconds of starting Python, so that one finished run serves several comparisons.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fairlead import machine, places
from fairlead.errors import ConfigError, Conflict, DataError, FairleadError, NumericalError, Stopped
from fairlead.formats.digests import of_file
from fairlead.formats.model import read_training
from fairlead.registry import RunRecord, open_registry
from fairlead.training import run as run_module
from fairlead.training.launching import calibration, cores
from fairlead.training.models.building import load_classifier
from fairlead.training.run import train_stage
from tests.training.corpus import LABELS, Corpus

# 54 steps of several micro-batches each.
SETTINGS: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 8,
    "micro_batch_tokens": 32,
    "learning_rate": 1e-3,
    "threads": 1,
    "checkpoint_every_steps": 2,
}
train = train_stage.inner  # type: ignore[attr-defined]


def arguments(corpus: Corpus, output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "project": "animals",
        "data": str(corpus.data),
        "tokens": str(corpus.tokens),
        "model": {"depth": 1},
        "training": SETTINGS | changes,
        "output": str(output),
    }


def start(values: dict[str, Any]) -> subprocess.Popen[str]:
    code = "import json, sys; from fairlead.training.run import train_stage; train_stage(**json.loads(sys.argv[1]))"
    command = [sys.executable, "-c", code, json.dumps(values)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_checkpoint(process: subprocess.Popen[str], home: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(home.glob("checkpoints/*/step-*/state.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)


def only_run() -> RunRecord:
    with open_registry() as registry:
        (run,) = registry.list_runs()
        return run


def losses(run_id: str) -> list[float]:
    with open_registry() as registry:
        return [point.value for point in registry.metric_history(run_id, "loss")]


class Reference:
    """A run that was never killed, on one process."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "model"
        train(**arguments(Corpus(folder), self.output))
        self.run, self.digest = only_run(), read_training(self.output).weights_digest
        self.losses = losses(self.run.run_id)
        with open_registry() as registry:
            self.metrics = {point.name for point in registry.metric_history(self.run.run_id)}
        self.home = places.home()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_HOME", str(folder / "home"))
        return Reference(folder)


def test_it_leaves_a_model_a_record_and_a_run(reference: Reference) -> None:
    record = read_training(reference.output)
    assert record.weights_digest == of_file(reference.output / "model.safetensors") == reference.run.weights_digest
    assert (record.steps, record.labels, record.environment.world_size) == (54, LABELS, 1)
    assert set(record.config) == {"data", "tokenization", "model", "training"}
    assert list(load_classifier(reference.output).config.id2label.values()) == LABELS
    assert (reference.output / "tokenizer.json").is_file()
    assert reference.run.status == "finished" and reference.run.metrics == record.validation
    assert len(reference.losses) == 54
    names = {"padding_share", "tokens_per_second", "memory_bytes", "num_steps", "logging_share", "validation/macro_f1"}
    assert names | {"data_wait_share"} <= reference.metrics
    assert not list(reference.home.glob("checkpoints/*/step-*"))


def test_the_same_call_again_gives_the_same_model_at_once(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIRLEAD_HOME", str(reference.home))
    leftover = places.run_folder(reference.run.run_id) / "step-00000002" / "model.safetensors"
    leftover.parent.mkdir()  # as if killed while it cleaned up
    leftover.write_bytes(b"weights")
    train(**arguments(Corpus(tmp_path), tmp_path / "again", threads=2))
    assert read_training(tmp_path / "again") == read_training(reference.output)
    assert only_run().attempts == 1 and not leftover.exists()
    assert "reused=yes: finished before" in capsys.readouterr().out


def test_told_to_start_afresh_it_trains_again_to_the_same_weights(
    reference: Reference,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(reference.home, home)
    monkeypatch.setenv("FAIRLEAD_FRESH", "1")
    train(**arguments(Corpus(tmp_path), tmp_path / "again"))
    assert only_run().attempts == 2 and "reused" not in capsys.readouterr().out
    assert read_training(tmp_path / "again").weights_digest == reference.digest


def test_a_run_that_goes_on_keeps_the_number_of_threads_that_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "physical_cores", lambda: 2)
    values = arguments(Corpus(tmp_path), tmp_path / "model", max_steps=2, threads=None)
    with monkeypatch.context() as patch:
        patch.setattr(calibration, "fastest_threads", lambda most, _dtype: most)
        patch.setattr(run_module, "_launch", lambda *_: (_ for _ in ()).throw(Stopped("a signal")))
        with pytest.raises(Stopped):
            train(**values)
    monkeypatch.setattr(calibration, "fastest_threads", lambda _most, _dtype: 1)
    train(**values)
    assert only_run().attempts == 2
    assert read_training(tmp_path / "model").environment.num_threads == 2


def test_a_run_that_goes_on_keeps_the_number_of_processes_that_it_chose(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "physical_cores", lambda: 2)
    values = arguments(Corpus(tmp_path), tmp_path / "model", max_steps=3)
    with monkeypatch.context() as patch:
        # As if it were long, on cores of their own.
        patch.setattr(cores, "LEAST_OPERATIONS", 0)
        patch.setattr(cores, "START_SECONDS", 0)
        patch.setattr(cores, "MEETING_SECONDS", 0)
        patch.setattr(calibration, "measured", lambda candidates, _dtype: {c: 1e3 * c.processes for c in candidates})
        patch.setattr(run_module, "_launch", lambda *_: (_ for _ in ()).throw(Stopped("a signal")))
        with pytest.raises(Stopped):
            train(**values)
    train(**values)
    record = read_training(tmp_path / "model")
    assert (record.environment.world_size, record.environment.num_threads) == (2, 1)
    assert record.config["training"]["processes"] is None
    assert losses(record.run_id)[0] == pytest.approx(reference.losses[0], rel=1e-5)


def test_killed_and_run_again_it_ends_with_the_same_weights(reference: Reference, tmp_path: Path, home: Path) -> None:
    values = arguments(Corpus(tmp_path), tmp_path / "model")
    process = start(values)
    wait_for_checkpoint(process, home)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(home.glob("checkpoints/*/finished"))
    train(**values)
    assert read_training(tmp_path / "model").weights_digest == reference.digest
    assert only_run().attempts == 2 and losses(only_run().run_id) == reference.losses


def test_sigterm_keeps_the_step_and_asks_for_a_retry(reference: Reference, tmp_path: Path, home: Path) -> None:
    process = start(arguments(Corpus(tmp_path), tmp_path / "model", processes=2))
    wait_for_checkpoint(process, home)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.strip().splitlines()[-1].startswith("error: train: it was stopped by SIGTERM")
    assert only_run().status == "failed"
    assert only_run().run_id == reference.run.run_id and only_run().environment.world_size == 2
    step = max(int(path.name.removeprefix("step-")) for path in home.glob("checkpoints/*/step-*"))
    assert len(losses(only_run().run_id)) == step
    # It goes on at another number of processes, on the same global batches, to the loss curve of one process.
    train(**arguments(Corpus(tmp_path), tmp_path / "model", processes=1))
    assert losses(only_run().run_id) == pytest.approx(reference.losses, abs=1e-4)


def test_a_killed_rank_is_named(tmp_path: Path, home: Path) -> None:
    process = start(arguments(Corpus(tmp_path), tmp_path / "model", processes=2, epochs=400))
    wait_for_checkpoint(process, home)
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "train: rank 1 failed (killed by SIGKILL" in output.strip().splitlines()[-1]


def ranks_of(launcher: int) -> list[int]:
    """Process ids of the workers, by rank."""
    ranks = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = dict(item.partition("=")[::2] for item in (folder / "environ").read_text().split("\0"))
        except (OSError, ValueError):
            continue
        if parent == launcher and "RANK" in environment:
            ranks[int(environment["RANK"])] = int(folder.name)
    return [ranks[rank] for rank in sorted(ranks)]


def test_a_rank_s_error_is_the_stage_s_error(tmp_path: Path) -> None:
    wild = {"learning_rate": 10, "optimizer": "sgd", "gradient_clip": 0, "warmup_share": 0}
    with pytest.raises(NumericalError, match=r"(norm|loss) is (inf|nan) at step"):
        train(**arguments(Corpus(tmp_path), tmp_path / "model", **wild))
    assert only_run().status == "failed" and "at step" in str(only_run().reason)


def test_a_failure_of_the_disk_ends_the_run_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        train(**arguments(Corpus(tmp_path), tmp_path / "model"))
    assert only_run().status == "failed"
    assert str(only_run().reason).startswith("train: No such file or directory")


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"training": {"processes": 9, "batch_size": 8}}, ConfigError, "training.processes: 9 is more than"),
        ({"training": {"learning_rat": 1}}, ConfigError, "did you mean 'learning_rate'"),
        ({"model": {"base": "nowhere"}}, FairleadError, "nowhere"),
        ({"model": {"base": "elsewhere"}, "tokens_base": "scratch"}, Conflict, "elsewhere cannot read tokens made for"),
        ({"project": "Bad Name"}, ConfigError, "not a project name"),
    ],
)
def test_mistakes_stop_it_before_any_process(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    changes = dict(changes)
    corpus = Corpus(tmp_path, base=changes.pop("tokens_base", None))
    with pytest.raises(error, match=sentence):
        train(**arguments(corpus, tmp_path / "model") | changes)


def test_tokens_of_other_data_and_unknown_labels_are_refused(tmp_path: Path) -> None:
    corpus, other = Corpus(tmp_path / "a"), Corpus(tmp_path / "b")
    manifest = (other.data / "manifest.json").read_text().replace("sha256:", "sha256:0")
    (other.data / "manifest.json").write_text(manifest)
    with pytest.raises(Conflict, match="another data version"):
        train(**arguments(corpus, tmp_path / "model") | {"data": str(other.data)})
    corpus.relabel("validation", 3, -1)
    with pytest.raises(DataError, match="row 3 of 'validation'"):
        train(**arguments(corpus, tmp_path / "model"))


def test_a_rank_that_hangs_is_named_and_a_retry_goes_on(tmp_path: Path, home: Path) -> None:
    values = arguments(Corpus(tmp_path), tmp_path / "model", processes=2, epochs=100, hang_timeout_seconds=10)
    process = start(values)
    wait_for_checkpoint(process, home)
    os.kill(ranks_of(process.pid)[1], signal.SIGSTOP)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.match(r"error: train: rank 1 hangs at step \d+: its process does not run", output.splitlines()[-1])
    assert only_run().reason == output.splitlines()[-1].removeprefix("error: ")
