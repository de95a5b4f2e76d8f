"""Two machines, as far as two launchers on one machine can be: they share an S3 store and no folder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairlead import places
from fairlead.errors import ConfigError, TrainingError
from fairlead.formats.model import read_training
from fairlead.registry import open_registry
from fairlead.storage import open_store
from fairlead.training import precision
from fairlead.training.launching import exchange
from fairlead.training.launching.job import Job
from fairlead.training.launching.nodes import Node, _free_port
from fairlead.training.run import train_stage
from tests.training.corpus import Corpus

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "micro_batch_tokens": 32,
    "learning_rate": 1e-3,
    "threads": 1,
}
train = train_stage.inner  # type: ignore[attr-defined]


def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
    corpus = Corpus(folder)
    return {
        "project": "animals",
        "data": str(corpus.data),
        "tokens": str(corpus.tokens),
        "model": {"depth": 1},
        "training": SETTINGS | changes,
        "output": str(folder / "model"),
    }


class Machines:
    """Starts a process a machine, each with a home of its own, and waits for all."""

    def __init__(self, folder: Path, count: int = 2, environment: dict[str, str] | None = None) -> None:
        self.folder, self.count, self.environment = folder, count, environment or {}
        self.codes: list[int] = []
        self.logs: list[str] = []

    def __call__(self, job: Job) -> None:
        port = _free_port()
        processes = [self._start(job, rank, port) for rank in range(self.count)]
        self.logs = [process.communicate(timeout=250)[0] for process in processes]
        self.codes = [process.returncode for process in processes]

    def _start(self, job: Job, rank: int, port: int) -> subprocess.Popen[str]:
        environment = os.environ | {
            "FAIRLEAD_HOME": str(self.folder / f"machine-{rank}"),
            "FAIRLEAD_REGISTRY": places.registry_url(),
            "GLOO_SOCKET_IFNAME": "lo",
            "PET_NNODES": str(self.count),
            "PET_NODE_RANK": str(rank),
            "PET_NPROC_PER_NODE": "1",
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
        }
        command = [sys.executable, "-m", "fairlead.training.launching.node", job.run_id]
        return subprocess.Popen(
            command,
            env=environment | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # It would find this machine's .fairlead otherwise.
            cwd=self.folder,
        )


@pytest.fixture
def store(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FAIRLEAD_STORE", s3_url)
    return s3_url


def test_two_machines_end_with_the_weights_of_two_processes_on_one(tmp_path: Path, store: str) -> None:
    machines = Machines(tmp_path)
    values = arguments(tmp_path / "two", nodes=2, precision="auto")
    # This machine only asks for the training; what is fast it must not decide.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "has_fast_bf16", lambda device: pytest.fail("asked of the thin step"))
        train(**values, elsewhere=machines)
    assert machines.codes == [0, 0], "\n".join(machines.logs)
    record = read_training(Path(values["output"]))
    assert record.environment.world_size == 2
    settled = record.config["training"]
    assert settled["precision"] in ("fp32", "bf16") and settled["compile"] == "off"
    # What only the training needed is gone; the model is there for a step that is run again.
    run = record.run_id
    assert {stat.key.split("/")[2] for stat in open_store(store).list(f"runs/{run}/")} == {"finished"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_HOME", str(tmp_path / "another"))
        train(**values, elsewhere=None)
        one = arguments(tmp_path / "one", processes=2, precision=settled["precision"])
        train(**one)
        with open_registry() as registry:
            assert registry.get_run(run).status == "finished"
    assert read_training(Path(one["output"])).weights_digest == record.weights_digest


def test_a_mistake_that_one_machine_finds_ends_all_with_42(tmp_path: Path, store: str) -> None:
    """A learning rate that ends in no number: every machine says that a retry does not help."""
    machines = Machines(tmp_path)
    values = arguments(tmp_path / "two", nodes=2, learning_rate=10, optimizer="sgd", gradient_clip=0, warmup_share=0)
    with pytest.raises(TrainingError, match="without leaving a model"):
        train(**values, elsewhere=machines)
    assert machines.codes == [42, 42]
    assert all("at step" in log.strip().splitlines()[-1] for log in machines.logs)
    run = next(stat.key for stat in open_store(store).list("runs/")).split("/")[1]
    failures = exchange.failures(open_store(store), run)
    assert "at step" in failures[0].message and not failures[0].echo


def test_a_store_on_this_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.nodes: 2 machines share no disk"):
        train(**arguments(tmp_path, nodes=2))


def test_a_pod_of_another_runtime_is_refused_by_the_missing_variable() -> None:
    with pytest.raises(ConfigError, match="PET_NNODES: it is not set"):
        Node.from_environment({})
