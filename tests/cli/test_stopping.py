"""`fairlead run` told to stop while it trains, and started again; exit codes that say whether that helps."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fairlead.registry import MetricPoint, RunRecord, open_registry
from tests.pipelines.road import write_data

ROOT = Path(__file__).parent.parent.parent
TRAINING = {"epochs": 150, "threads": 1, "checkpoint_every_steps": 20, "eval_every_steps": 150, "learning_rate": 1e-3}
STEPS = 450


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    data = write_data(tmp_path / "words.csv")
    program = [sys.executable, "-m", "fairlead.cli.main", "run", "--data", str(data), "--project", "tiny_topics"]
    settings = [f"training.{name}={value}" for name, value in TRAINING.items()] + ["model.depth=1"]
    return program + [word for setting in settings for word in ("--set", setting)] + ["--until", "train"]


def start(command: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


def steps_of(folder: Path) -> list[int]:
    return sorted(
        int(path.parent.name.removeprefix("step-")) for path in folder.glob("checkpoints/*/step-*/state.json")
    )


def only_run() -> RunRecord:
    with open_registry() as registry:
        (run,) = registry.list_runs()
        return run


@pytest.mark.timeout(900)
def test_told_to_stop_it_keeps_its_step_and_the_same_command_goes_on(command: list[str], home: Path) -> None:
    process = start(command)
    while not steps_of(home):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 143, output
    assert output.splitlines()[-1] == "stopped: the same command goes on from what it had done"
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in below)
    run = only_run()
    assert (run.status, run.attempts) == ("failed", 1)
    assert "was stopped by a signal" in str(run.reason)
    assert steps_of(home)[-1] == len(losses(run)) < STEPS, "the newest checkpoint has every step that was done"

    again = start(command)
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert (only_run().status, only_run().attempts, only_run().run_id) == ("finished", 2, run.run_id)
    assert [point.step for point in losses(run)] == list(range(1, STEPS + 1))


def losses(run: RunRecord) -> list[MetricPoint]:
    with open_registry() as registry:
        return registry.metric_history(run.run_id, "loss")


def test_a_mistake_in_the_settings_is_not_to_be_retried(command: list[str], tmp_path: Path) -> None:
    run = start([*command, "--set", "training.optimizer=adamwx"])
    output, _ = run.communicate()
    assert run.returncode == 2 and output.startswith("error: config: training.optimizer = 'adamwx' is refused")
    stage = (
        "from fairlead.training.run import train_stage as t; t('topics', 'd', 't', {}, {'optimizer': 'adamwx'}, 'o')"
    )
    step = start([sys.executable, "-c", stage])
    output, _ = step.communicate()
    assert step.returncode == 42 and output.splitlines()[-1].startswith(
        "error: training: optimizer = 'adamwx' is refused"
    )
