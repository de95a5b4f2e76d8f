"""What the registry knows of runs and versions, as Prometheus metrics: training pods end too soon to be scraped.

Every scrape reads the registry anew. Runs are exported while they are young: those that ended, or fell silent, more
than a day ago are left out, so that the number of series stays that of the runs of a day.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fairlead.errors import FairleadError, NotFound
from fairlead.training.checkpoints.format import AGE

if TYPE_CHECKING:
    from fairlead.registry import MetricPoint, Registry, RunRecord

SECONDS_OF_INTEREST = 86_400.0
RUN = ["project", "run"]
# By name in the registry: what a run says of itself at its latest step.
FIGURES = {
    "loss": ("fairlead_run_loss", "Loss of the latest step."),
    "tokens_per_second": ("fairlead_run_tokens_per_second", "Tokens trained on a second."),
    "seconds_left": ("fairlead_run_seconds_left", "Seconds that the run still needs, as it estimates."),
    "data_wait_share": ("fairlead_run_data_wait_share", "Share of its time that the run waited for data."),
}


class RegistryCollector(Collector):
    """Reads a registry whenever Prometheus asks."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Every metric; of a registry that cannot be read only `fairlead_registry_up` 0."""
        up = GaugeMetricFamily("fairlead_registry_up", "Whether the registry can be read.")
        try:
            found = [*self._of_runs(time.time()), *self._of_versions()]
        except FairleadError:
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        return [up, *found]

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the registry, which need not be there yet."""
        return []

    def _of_runs(self, now: float) -> list[Metric]:
        statuses = GaugeMetricFamily("fairlead_runs", "Runs of the last day.", labels=["project", "status"])
        silence = GaugeMetricFamily("fairlead_run_silent_seconds", "Since a running run said anything.", labels=RUN)
        age = GaugeMetricFamily(
            "fairlead_run_checkpoint_age_seconds", "Training that a kill of a running run would lose.", labels=RUN
        )
        step = GaugeMetricFamily("fairlead_run_step", "Latest step of a running run.", labels=RUN)
        figures = {name: GaugeMetricFamily(*texts, labels=RUN) for name, texts in FIGURES.items()}
        scores = GaugeMetricFamily("fairlead_run_validation", "Latest validation.", labels=[*RUN, "metric"])
        counts: dict[tuple[str, str], int] = {}
        for run in self._registry.list_runs():
            points = self._points(run) if run.status == "running" else {}
            last = max((point.time for point in points.values()), default=_ended(run))
            if now - last > SECONDS_OF_INTEREST:
                continue
            key: tuple[str, str] = (run.project, run.status)
            counts[key] = counts.get(key, 0) + 1
            if points:
                of_run = [run.project, run.run_id]
                silence.add_metric(of_run, max(now - last, 0.0))
                if AGE in points:
                    # A run that fell silent goes on losing.
                    point = points[AGE]
                    age.add_metric(of_run, point.value + max(now - point.time, 0.0))
                step.add_metric(of_run, max(point.step for point in points.values()))
                _add_figures(of_run, points, figures, scores)
        for key, count in sorted(counts.items()):
            statuses.add_metric(list(key), count)
        return [statuses, silence, age, step, scores, *figures.values()]

    def _points(self, run: "RunRecord") -> "Mapping[str, MetricPoint]":
        try:
            return self._registry.latest_metrics(run.run_id)
        except NotFound:
            # Removed between the two reads.
            return {}

    def _of_versions(self) -> list[Metric]:
        latest = GaugeMetricFamily("fairlead_latest_version", "Newest version.", labels=["project"])
        aliases = GaugeMetricFamily("fairlead_alias_version", "Version of an alias.", labels=["project", "alias"])
        for model in self._registry.list_models():
            latest.add_metric([model.project], model.latest)
            for alias, number in sorted(model.aliases.items()):
                aliases.add_metric([model.project, alias], number)
        return [latest, aliases]


def _add_figures(
    of_run: list[str],
    points: "Mapping[str, MetricPoint]",
    figures: Mapping[str, GaugeMetricFamily],
    scores: GaugeMetricFamily,
) -> None:
    for name, point in points.items():
        if name in figures:
            figures[name].add_metric(of_run, point.value)
        elif name.startswith("validation/"):
            scores.add_metric([*of_run, name.removeprefix("validation/")], point.value)


def _ended(run: "RunRecord") -> float:
    """When a run ended, or began, in seconds since the epoch."""
    moment = datetime.fromisoformat(run.finished or run.started)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
