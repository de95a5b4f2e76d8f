"""From the turns of the serving benchmark to its figures and its table."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.serving_load import REFUSALS, Turn
from benchmarks.serving_texts import Workload

# Variants of less precision may answer a few texts otherwise; a server that mixes up its answers cannot reach this.
LEAST_AGREEMENT = 0.8
EQUAL = 1e-3


@dataclass
class Cell:
    """What one side did at one number of clients, over all turns."""

    rates: list[float] = field(default_factory=list)
    """Right answers a second, by turn."""
    latencies: list[float] = field(default_factory=list)
    """Seconds of every answered request."""
    refusals: list[float] = field(default_factory=list)
    """Seconds of every refused request."""
    live: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    errors: int = 0
    """Answers that are neither 200 nor a refusal, and connections that ended without one."""
    other_labels: int = 0
    """Answers whose label is not that of the fp32 weights."""
    difference: float = 0.0
    """Largest difference of a probability from that of the fp32 weights, where the label is the same."""
    server_cpu: float = 0.0
    """CPU seconds of the server's processes."""
    generator_cpu: list[float] = field(default_factory=list)
    """Share of one CPU that the load generator used, by turn."""

    def add(self, turn: Turn, server_cpu: float, workload: Workload, read: Callable[[Any], tuple[str, float]]) -> None:
        """Count one turn."""
        answered = 0
        for reply in turn.replies:
            if reply.status == 200:
                answered += 1
                self.latencies.append(reply.seconds)
                self._check(*read(json.loads(reply.body)), workload, reply.index)
            elif reply.status in REFUSALS:
                self.refusals.append(reply.seconds)
            else:
                self.errors += 1
        self.rates.append(answered / turn.seconds)
        self.server_cpu += server_cpu
        self.generator_cpu.append(turn.cpu_seconds / turn.seconds)
        for path, seconds in turn.probes.items():
            (self.live if path.endswith("live") else self.ready).extend(seconds)

    def _check(self, label: str, probability: float, workload: Workload, index: int) -> None:
        if label != workload.labels[index]:
            self.other_labels += 1
        else:
            self.difference = max(self.difference, abs(probability - workload.probabilities[index]))

    @property
    def rate(self) -> float:
        """Texts a second: the median turn."""
        return statistics.median(self.rates)

    @property
    def cpu_per_text(self) -> float:
        """CPU seconds of the server a text."""
        return self.server_cpu / max(1, len(self.latencies))

    def figures(self) -> dict[str, float | int | None]:
        """By name; milliseconds."""
        answered = len(self.latencies)
        return {
            "texts_per_second": self.rate,
            "p50_ms": percentile(self.latencies, 50),
            "p99_ms": percentile(self.latencies, 99),
            "live_p99_ms": percentile(self.live, 99),
            "ready_p99_ms": percentile(self.ready, 99),
            "refusal_p50_ms": percentile(self.refusals, 50),
            "refusal_p99_ms": percentile(self.refusals, 99),
            "refused_share": len(self.refusals) / max(1, answered + len(self.refusals)),
            "errors": self.errors,
            "other_label_share": self.other_labels / max(1, answered),
            "max_difference": self.difference,
            "server_cpu_ms_per_text": 1000 * self.cpu_per_text,
            "generator_cpu_share": max(self.generator_cpu),
        }


def percentile(seconds: Sequence[float], rank: float) -> float | None:
    """In milliseconds; None of nothing."""
    return float(np.percentile(seconds, rank, method="higher")) * 1000 if seconds else None


def ratio(one: float | None, other: float | None) -> float | None:
    """None where one of them was not measured."""
    return one / other if one and other else None


def check(name: str, cells: Mapping[int, Cell], equal: bool) -> None:
    """Stop at answers that are wrong: a figure of a server that answers wrong means nothing."""
    for clients, cell in cells.items():
        answered = len(cell.latencies)
        if cell.other_labels > (1 - LEAST_AGREEMENT) * answered:
            raise SystemExit(f"{name}: {cell.other_labels} of {answered} answers are wrong at {clients} clients")
        if equal and (cell.difference > EQUAL or cell.other_labels > 0):
            raise SystemExit(
                f"{name}: it is no fp32 at {clients} clients: {cell.other_labels} other labels, "
                f"probabilities up to {cell.difference:.2g} away"
            )


def table(sides: Mapping[str, Mapping[int, Cell]], raw: float | None, named: Mapping[str, float | None]) -> str:
    """The table of the page."""
    header = ["server", "clients", "texts/s", "p50 ms", "p99 ms", "live p99 ms", "refused", "errors", "CPU ms a text"]
    rows = [_row(name, clients, cell.figures()) for name, cells in sides.items() for clients, cell in cells.items()]
    if raw is not None:
        rows.append(["raw engine, same variant", "", f"{raw:.0f}", *[""] * 6])
    figures = ", ".join(f"`{name}` {_number(value)}" for name, value in named.items())
    return f"{figures}\n\n{tables.markdown(header, rows)}"


def _row(name: str, clients: int, figures: Mapping[str, Any]) -> list[str]:
    times = [_number(figures[key]) for key in ("p50_ms", "p99_ms", "live_p99_ms")]
    counts = [f"{figures['refused_share']:.1%}", str(figures["errors"])]
    cpu = f"{figures['server_cpu_ms_per_text']:.1f}"
    return [name, str(clients), f"{figures['texts_per_second']:.0f}", *times, *counts, cpu]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
