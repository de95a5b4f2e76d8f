"""Does the model server stay as it is? Memory, p99 and errors over a long load.

    python -m benchmarks.serving_soak [--minutes 30] [--json]

One server with the benchmark's model, `CLIENTS` closed-loop clients and health probes, in slices of half a minute;
every answer is compared with that of the fp32 weights. A tenth of the time warms up. `memory_growth_mib` is the
difference, and `p99_growth` the ratio, of the medians of the last and the first third of the slices after it.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import serving_sides, tables
from benchmarks.serving_figures import Cell, check
from benchmarks.serving_load import Load
from benchmarks.serving_sides import Side
from benchmarks.serving_texts import Workload, cache_folder, prepare
from benchmarks.serving_variants import FAST, version_of

CLIENTS, SLICE_SECONDS = 16, 30.0
ROWS = 10


@dataclass(frozen=True)
class Slice:
    """What half a minute showed."""

    minute: float
    """Since the first request."""
    figures: dict[str, Any]
    resident_mib: float
    """Memory of the server's processes at its end."""


def main() -> None:
    """Soak a server and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and leave the page alone")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="keeps the model. Default: %(default)s")
    arguments = parser.parse_args()
    workload = prepare(arguments.cache)
    version, variant = version_of(workload, FAST)
    side = serving_sides.fairlead("Fairlead", version, workload.project)
    with tempfile.TemporaryDirectory(prefix="fairlead-soak-") as folder:
        try:
            side.start(Path(folder))
            side.wait(Path(folder))
            slices = soak(side, workload, arguments.minutes)
        finally:
            side.stop()
    figures = summary(slices)
    if arguments.json:
        print(json.dumps(figures | {"variant": variant}, indent=2))
        return
    text = table(slices, figures, variant)
    print(text)
    tables.write("soak", f"make soak MINUTES={arguments.minutes:g}", text)


def soak(side: Side, workload: Workload, minutes: float) -> list[Slice]:
    """Load it for so long."""
    requests, order = side.requests(workload.texts), itertools.cycle(range(len(workload.texts)))
    slices: list[Slice] = []
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < 60 * minutes:
        cell, before = Cell(), side.cpu_seconds()
        turn = Load(side.address, requests, order).closed(CLIENTS, SLICE_SECONDS, 0.0, (side.live, side.ready))
        cell.add(turn, side.cpu_seconds() - before, workload, side.read)
        check(f"minute {elapsed / 60:.0f}", {CLIENTS: cell}, equal=False)
        slices.append(Slice(elapsed / 60, cell.figures(), side.resident_bytes() / 2**20))
        print(f"minute {elapsed / 60:.1f}: {slices[-1]}", file=sys.stderr, flush=True)
    return slices


def summary(slices: list[Slice]) -> dict[str, float]:
    """The named figures."""
    after = slices[len(slices) // 10 :]
    third = max(1, len(after) // 3)

    def medians(read: Any) -> tuple[float, float]:
        return statistics.median(map(read, after[:third])), statistics.median(map(read, after[-third:]))

    memory, p99 = medians(lambda one: one.resident_mib), medians(lambda one: one.figures["p99_ms"])
    return {
        "minutes": slices[-1].minute + SLICE_SECONDS / 60,
        "memory_growth_mib": memory[1] - memory[0],
        "p99_growth": p99[1] / p99[0],
        "answered": sum(one.figures["texts_per_second"] * SLICE_SECONDS for one in slices),
        "errors": sum(one.figures["errors"] for one in slices),
    }


def table(slices: list[Slice], figures: dict[str, float], variant: str) -> str:
    """Every tenth of the time, and the figures."""
    header = ["minute", "texts/s", "p50 ms", "p99 ms", "live p99 ms", "refused", "errors", "memory MiB"]
    step = -(-len(slices) // ROWS)
    named = ", ".join(f"`{name}` {value:.4g}" for name, value in figures.items())
    return f"{CLIENTS} clients, {variant}: {named}\n\n{tables.markdown(header, [_row(one) for one in slices[::step]])}"


def _row(one: Slice) -> list[str]:
    times = [f"{one.figures[name] or 0:.1f}" for name in ("texts_per_second", "p50_ms", "p99_ms", "live_p99_ms")]
    counts = [f"{one.figures['refused_share']:.1%}", str(one.figures["errors"])]
    return [f"{one.minute:.1f}", *times, *counts, f"{one.resident_mib:.0f}"]


if __name__ == "__main__":
    main()
