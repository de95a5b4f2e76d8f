"""TensorBoard's event files and MLflow's runs, read back through their own readers."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fairlead.errors import ConfigError
from fairlead.registry import MetricPoint
from fairlead.training.watch.metrics import MetricLog, Sink
from fairlead.training.watch.sinks import check_sinks, hide_credentials, open_sinks


class Nowhere:
    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        pass


def train(sinks: list[Sink], first: int, last: int, finished: bool = True) -> None:
    """What a run writes that goes on from step `first`."""
    log = MetricLog(Nowhere(), "run_1", others=sinks)
    log.begin(first, 20)
    for step in range(first + 1, last + 1):
        log.add(step, {"loss": 2 / step, "norm": float("nan")})
    log.close(60, finished)


def test_tensorboard_reads_each_step_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("FAIRLEAD_TENSORBOARD", str(tmp_path / "board"))
    train(open_sinks(["tensorboard"], "topics", {}), 0, 9)
    train(open_sinks(["tensorboard"], "topics", {}), 4, 6)
    events = EventAccumulator(str(tmp_path / "board" / "run_1"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(step, pytest.approx(2 / step)) for step in range(1, 7)]


def test_mlflow_gets_each_step_once_and_how_it_ended(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    settings = {"training.learning_rate": 0.001}
    train(open_sinks(["mlflow"], "topics", settings), 0, 9, finished=False)
    train(open_sinks(["mlflow"], "topics", settings), 4, 12)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("topics").experiment_id])
    losses = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss")]
    assert losses == [(step, 2 / step) for step in range(1, 13)]
    assert run.data.params == {"training.learning_rate": "0.001"} and run.data.tags["fairlead.run"] == "run_1"
    assert run.info.status == "FINISHED" and "norm" not in run.data.metrics


def test_a_server_that_is_away_is_warned_of_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    log = MetricLog(Nowhere(), "run_1", others=open_sinks(["mlflow"], "topics", {}))
    log.add(1, {"loss": 2.0})
    err = ""
    while "training goes on" not in err:
        time.sleep(0.05)
        err += capfd.readouterr().err
    log.close(0.1, finished=True)
    err += capfd.readouterr().err
    assert "warning: mlflow: " in err and "could not be written to it" in err
    assert "s3cret" not in err
    assert hide_credentials("at https://a:b@host/x and http://host") == "at https://***@host/x and http://host"


def test_what_is_missing_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="mlflow has no place; set MLFLOW_TRACKING_URI"):
        check_sinks(["mlflow"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorboard" else sys)
    with pytest.raises(ConfigError, match=r"tensorboard is not installed; install fairlead\[tensorboard\]"):
        check_sinks(["tensorboard"])
