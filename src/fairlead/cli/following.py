"""What is known of a run that goes on: read anew from the registry, a little each time."""

import math
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairlead.registry import MetricPoint, Registry

# As fairlead.training.watch.metrics names them.
NUM_STEPS, SECONDS_LEFT, LOGGING_SHARE = "num_steps", "seconds_left", "logging_share"
LOSS, VALIDATION = "loss", "validation/"
# What picks the best step where the settings leave it to the task.
USUAL = (f"{VALIDATION}macro_f1", f"{VALIDATION}rmse", f"{VALIDATION}mse", f"{VALIDATION}accuracy")
# Metrics that are better when smaller.
FALLING = ("loss", "perplexity", "calibration_error", "mse", "rmse", "mae")
# A run that was silent for long when it is first looked at is given so long to say something: a run notes
# its memory every five seconds, and the clocks of two machines differ.
SECONDS_OF_DOUBT = 20.0


class Following:
    """A run, the latest of its metrics and the curves of its loss and its validation metric."""

    def __init__(self, registry: "Registry", run_id: str, clock: "Callable[[], float]" = time.monotonic) -> None:
        self._registry, self._clock = registry, clock
        self.run = registry.get_run(run_id)
        self.latest: dict[str, MetricPoint] = {}
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self._seen: dict[str, int] = {}
        self._since = clock()

    def look(self) -> list["MetricPoint"]:
        """Read what is new, by step; a run that began again from an earlier step loses what came after it."""
        before = (self.run.status, self.run.attempts)
        self.run = self._registry.get_run(self.run.run_id)
        latest, fresh = self._registry.latest_metrics(self.run.run_id), []
        for name, point in latest.items():
            if point.step < self._seen.get(name, -1):
                self._rewind(name, point.step)
            fresh += self._registry.metric_history(self.run.run_id, name, self._seen.get(name, -1))
        if latest != self.latest or before != (self.run.status, self.run.attempts):
            self._since = self._clock()
        self.latest = latest
        for point in fresh:
            self._seen[point.name] = max(point.step, self._seen.get(point.name, -1))
            if point.name in (LOSS, self.metric):
                self.curves.setdefault(point.name, []).append((point.step, point.value))
        return sorted(fresh, key=lambda point: point.step)

    @property
    def metric(self) -> str:
        """Name of the validation metric that picks the best step; `validation/loss` when it is not known."""
        wanted = VALIDATION + str(self.run.config.get("training", {}).get("metric", ""))
        found = [name for name in (wanted, *USUAL) if name in self.latest]
        return next(iter(found), VALIDATION + LOSS)

    @property
    def silence(self) -> float:
        """Seconds since the run last said something, as far as two machines' clocks agree."""
        told = max((point.time for point in self.latest.values()), default=0.0)
        told = max(told, datetime.fromisoformat(self.run.started).timestamp())
        watched = self._clock() - self._since
        return max(watched, time.time() - told) if watched >= SECONDS_OF_DOUBT else watched

    @property
    def step(self) -> int:
        """The latest step."""
        return self.latest[LOSS].step if LOSS in self.latest else 0

    def figures(self) -> list[str]:
        """`step 120/400`, `loss 0.41`, `macro_f1 0.88 (best 0.90)`, `12,345 tokens/s` and so on, as far as known."""
        total = self._value(NUM_STEPS)
        parts = [f"step {self.step:,}" + (f"/{total:,.0f}" if total else "")]
        if LOSS in self.latest:
            parts.append(f"loss {self.latest[LOSS].value:.4f}")
        if curve := self.curves.get(self.metric):
            parts.append(f"{self.metric.removeprefix(VALIDATION)} {curve[-1][1]:.4f} (best {self._best(curve):.4f})")
        for name, text in TEXTS.items():
            if (value := self._value(name)) is not None:
                parts.append(text(value))
        return parts

    def as_json(self) -> dict[str, Any]:
        """The latest of every metric by name."""
        return {name: finite(point.value) for name, point in self.latest.items()}

    def _rewind(self, name: str, step: int) -> None:
        self._seen[name] = step
        self.curves[name] = [point for point in self.curves.get(name, []) if point[0] <= step]

    def _value(self, name: str) -> float | None:
        point = self.latest.get(name)
        return point.value if point else None

    def _best(self, curve: list[tuple[float, float]]) -> float:
        values = [value for _, value in curve if math.isfinite(value)] or [math.nan]
        return min(values) if self.metric.removeprefix(VALIDATION) in FALLING else max(values)


def finite(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return value if math.isfinite(value) else None


def _left(seconds: float) -> str:
    from fairlead.cli.display import clock

    return f"{clock(seconds)} left"


TEXTS = {
    "tokens_per_second": lambda value: f"{value:,.0f} tokens/s",
    "padding_share": lambda value: f"padding {100 * value:.1f} %",
    "memory_bytes": lambda value: f"{value / 1e9:.1f} GB",
    "gpu_memory_bytes": lambda value: f"GPU {value / 1e9:.1f} GB",
    "micro_batch_tokens": lambda value: f"micro-batches of {value:,.0f} tokens",
    SECONDS_LEFT: _left,
}
