"""The whole train step on many nodes: submitted, lost, attached to again, cancelled, resumed, and the same weights.

The API server enforces the CRD; the nodes' pods are processes made from the TrainJob's own pod template.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead import places
from fairlead.cluster.trainjob import FOLLOWER
from fairlead.formats.model import read_training
from fairlead.registry import open_registry
from fairlead.storage import open_store
from fairlead.training.run import train_stage
from tests.cluster.kubernetes_objects import Cluster
from tests.cluster.test_nodes import cluster, store, wait_for
from tests.cluster.trainer import NAMESPACE, Trainer, machine
from tests.training.corpus import Corpus

__all__ = ["cluster", "store"]
RUNTIME = Path(__file__).parent.parent.parent / "manifests" / "base" / "trainer" / "runtime.yaml"
SETTINGS: dict[str, Any] = {
    "epochs": 60,
    "batch_size": 8,
    "micro_batch_tokens": 32,
    "learning_rate": 1e-3,
    "threads": 1,
    "checkpoint_every_steps": 20,
    "eval_every_steps": 270,
}
STEPS = 540
# As components/train.py has it.
STEP = """
import json, sys
from fairlead.cluster.training import on_cluster
from fairlead.training.run import train_stage
train_stage(**json.loads(sys.argv[1]), elsewhere=on_cluster)
"""


@pytest.fixture
def trainer(cluster: Cluster, tmp_path: Path) -> Iterator[Trainer]:
    keys = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    data = keys | {"FAIRLEAD_REGISTRY": places.registry_url()}
    cluster.make("secrets", {"metadata": {"name": "fairlead", "namespace": NAMESPACE}, "data": data})
    (tmp_path / "pods").mkdir()
    with Trainer(cluster, RUNTIME, tmp_path / "pods", machine(tmp_path, places.registry_url())) as trainer:
        yield trainer


def arguments(folder: Path, **training: Any) -> dict[str, Any]:
    corpus = Corpus(folder)
    return {
        "project": "animals",
        "data": str(corpus.data),
        "tokens": str(corpus.tokens),
        "model": {"depth": 1},
        "training": SETTINGS | training,
        "output": str(folder / "model"),
    }


def start(values: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", STEP, json.dumps(values)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def steps_kept(url: str) -> list[int]:
    keys = [stat.key.split("/") for stat in open_store(url).list("checkpoints/")]
    return sorted(int(key[2].removeprefix("step-")) for key in keys if key[-1] == "state.json")


def losses() -> list[int]:
    with open_registry() as registry:
        (run,) = registry.list_runs()
        return [point.step for point in registry.metric_history(run.run_id, "loss")]


def job(cluster: Cluster) -> Any:
    found = cluster.select("trainjobs", NAMESPACE, {})
    assert len(found) <= 1, "a step that is run again submits nothing new"
    return found[0] if found else None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lost_cancelled_and_resumed_it_ends_with_the_weights_of_an_unbroken_run(
    cluster: Cluster, trainer: Trainer, store: str, tmp_path: Path
) -> None:
    values = arguments(tmp_path / "nodes", nodes=2, processes=1)
    lost = start(values)
    submitted = wait_for(lambda: job(cluster))
    lost.send_signal(signal.SIGKILL)
    lost.communicate()

    cancelled = start(values)
    wait_for(lambda: ended(cancelled) or follower(cluster) != submitted["metadata"]["annotations"][FOLLOWER])
    wait_for(lambda: ended(cancelled) or steps_kept(store))
    cancelled.send_signal(signal.SIGTERM)
    output, _ = cancelled.communicate()
    assert cancelled.returncode == 1, output
    assert "was stopped by SIGTERM" in output.strip().splitlines()[-1]
    assert job(cluster)["metadata"]["uid"] == submitted["metadata"]["uid"] and job(cluster)["spec"]["suspend"]
    wait_for(lambda: not trainer.pods(submitted["metadata"]["uid"]))
    assert steps_kept(store)[-1] == losses()[-1] < STEPS, "ranks kept the step that they had done"

    resumed = start(values)
    output, _ = resumed.communicate()
    assert resumed.returncode == 0, output
    assert job(cluster)["metadata"]["uid"] == submitted["metadata"]["uid"]
    assert list(trainer.attempts.values()) == [2]
    assert losses() == list(range(1, STEPS + 1))
    record = read_training(Path(values["output"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_HOME", str(tmp_path / "another"))
        unbroken = arguments(tmp_path / "one", processes=2)
        train_stage.inner(**unbroken)  # type: ignore[attr-defined]
    assert read_training(Path(unbroken["output"])).weights_digest == record.weights_digest


def follower(cluster: Cluster) -> str:
    """The step that follows the TrainJob; from then on it hands on what it is told."""
    return str(job(cluster)["metadata"]["annotations"][FOLLOWER])


def ended(process: subprocess.Popen[str]) -> bool:
    """Fails with the log of a step that should be going on."""
    assert process.poll() is None, process.communicate()[0]
    return False
