"""Further places for metrics, through their own clients: TensorBoard's event files and an MLflow tracking server.

Both are asked for with `training.sinks` and told their place by the environment, as their own tools are:

    tensorboard   FAIRLEAD_TENSORBOARD, a folder; default `<home>/tensorboard`. A folder a run.
    mlflow        MLFLOW_TRACKING_URI, with MLflow's own variables for credentials; the experiment is
                  MLFLOW_EXPERIMENT_NAME or the project. A run of MLflow a run, found again by its tag.

Steps that are done again after a resume are not doubled in either.
"""

import importlib.util
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairlead import places
from fairlead.errors import ConfigError
from fairlead.names import MLFLOW_EXPERIMENT_ENV, MLFLOW_URI_ENV, TENSORBOARD_ENV
from fairlead.registry import MetricPoint
from fairlead.training.watch.metrics import Sink

# MLflow's server takes so many metrics in one request (its REST API's limit).
MLFLOW_POINTS_A_REQUEST = 1000
RUN_TAG = "fairlead.run"
# What stands between `//` and `@` of an address.
CREDENTIALS = re.compile(r"//[^/@\s]+@")


def check_sinks(names: Sequence[str]) -> None:
    """Raise ConfigError for a sink whose package is not here, or that has no place; before anything is trained."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"training.sinks: {name} is not installed; install fairlead[{name}] or leave it out")
    if "mlflow" in names and not os.environ.get(MLFLOW_URI_ENV):
        raise ConfigError(f"training.sinks: mlflow has no place; set {MLFLOW_URI_ENV} to its tracking server")


def open_sinks(names: Sequence[str], project: str, config: Mapping[str, Any]) -> list[Sink]:
    """The sinks by name; each opens its client with its first points, in its own thread."""
    return [TensorBoardSink() if name == "tensorboard" else MlflowSink(project, config) for name in names]


class TensorBoardSink:
    """Event files under the place's folder, one folder a run."""

    name = "tensorboard"

    def __init__(self) -> None:
        self._writer: Any = None
        self._from_step = 0

    def rewind(self, _run_id: str, step: int) -> None:
        """Have TensorBoard forget what earlier files say of later steps."""
        self._from_step = step + 1

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Write the points to disk."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            folder = os.environ.get(TENSORBOARD_ENV) or str(places.home() / "tensorboard")
            self._writer = SummaryWriter(str(Path(folder) / run_id), purge_step=self._from_step)
        for point in points:
            self._writer.add_scalar(point.name, point.value, point.step, walltime=point.time)
        self._writer.flush()

    def close(self, _finished: bool) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class MlflowSink:
    """A run in an MLflow tracking server."""

    name = "mlflow"

    def __init__(self, project: str, config: Mapping[str, Any]) -> None:
        """`config` are the settings by dotted name, logged as the run's parameters."""
        self._project, self._config = project, config
        self._client: Any = None
        self._run: str | None = None
        self._done: dict[str, int] = {}

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Send the points of steps that the server has not got. Raises without credentials in the message."""
        from mlflow.entities import Metric

        try:
            self._open(run_id)
            # MLflow knows no replacing: a point sent twice would be two.
            new = [p for p in points if p.step > self._done.get(p.name, -1) and math.isfinite(p.value)]
            for start in range(0, len(new), MLFLOW_POINTS_A_REQUEST):
                part = new[start : start + MLFLOW_POINTS_A_REQUEST]
                metrics = [Metric(p.name, p.value, round(p.time * 1000), p.step) for p in part]
                self._client.log_batch(self._run, metrics=metrics)
                self._done |= {p.name: max(p.step, self._done.get(p.name, -1)) for p in part}
        except Exception as error:
            # The cause is left out: its text may quote the address with its password.
            raise RuntimeError(hide_credentials(str(error))) from None

    def close(self, finished: bool) -> None:
        """Say how the run has ended."""
        if self._run:
            self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")

    def _open(self, run_id: str) -> None:
        if self._run:
            return
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=os.environ[MLFLOW_URI_ENV])
        experiment = self._experiment(os.environ.get(MLFLOW_EXPERIMENT_ENV) or self._project)
        found = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run_id}'", max_results=1)
        if found:
            run = found[0]
            self._client.update_run(run.info.run_id, status="RUNNING")
            for name in run.data.metrics:
                history = self._client.get_metric_history(run.info.run_id, name)
                self._done[name] = max((metric.step for metric in history), default=-1)
        else:
            run = self._client.create_run(experiment, tags={RUN_TAG: run_id}, run_name=run_id)
            params = [Param(name, str(value)[:500]) for name, value in self._config.items()]
            self._client.log_batch(run.info.run_id, params=params[:100])
        self._run = run.info.run_id

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        return str(known.experiment_id if known else self._client.create_experiment(name))


def hide_credentials(text: str) -> str:
    """A text without the user and password of any address in it."""
    return CREDENTIALS.sub("//***@", text)
