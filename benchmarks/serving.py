"""How fast and how honest is the model server, against KServe's and MLServer's Python servers with the same weights?

    python -m benchmarks.serving [--quick] [--json] [--version FOLDER] [--install-peers] [--kserve-src FOLDER]

Every server is a process of its own and gets the same texts (see serving_texts.py) from closed-loop clients, one text a
request: 1, 32 and 64 of them, in short turns that go round all servers several times, so that all of them meet the same
neighbours on the machine. Every answer is compared with that of the fp32 weights in a plain forward pass. Figures:

- `vs_peer_default`, `vs_peer_best`: texts/s over those of a `kserve.Model` around a transformers pipeline at its
  defaults, and at the better of bf16 and two workers of one thread; the lesser of both figures at 32 and 64 clients,
- `fp32_vs_peer_default`: the same with a variant whose probabilities are within 1e-3 of the fp32 weights' (checked),
- `of_raw_engine`: texts/s over those of the engine alone with the same variant on all cores, sorted by length, as one
  process a core or one of as many threads, whichever is faster,
- `live_p99_ms`, `ready_p99_ms`: health requests, 25 a second each, at 64 clients,
- `p50_at_1_vs_peer`: median time of a request at 1 client over the peer's at its defaults (less is better),
- `p99_over_unloaded`: p99 of answered requests at 64 clients over that at 1 client, `refused_share` beside it,
- `refusal_ms`: p99 of refused requests as their clients see it, at 64 clients and when requests arrive by chance at
  `OVERLOAD` times the rate answered at 64; `overload_p99_over_unloaded` and `overload_refused_share` of the latter,
- `refusal_at_server_ms`: the same by the server's own histogram, from the first byte read to the refusal written;
  `refusals_over_10_ms`: share of those that took longer; `loop_late_ms`: p99 of what a byte waits before it is read,
- `vs_kserve_huggingface`, `vs_mlserver`: `vs_peer_default` with those servers at their defaults in the peer's place,
- `cpu_vs_peer_default`, `cpu_vs_peer_best`, `fp32_cpu_vs_peer_default`, `cpu_of_raw_engine`: the same of CPU
  time a text, of a server's process and all that descend from it,
- `generator_cpu_share`: what the load generator used of one CPU at most; it is no bottleneck while far from 1,
- `halt_poll_ns`: of a virtual machine; where it is 0, threads that wait for each other are half as fast,
- `idle_cpu`: CPUs that each server uses while nobody asks it; `left_over_cpu`: the most CPU seconds that it used when
  its turn was over and its clients gone. Whoever's turn came next would have paid for them: so a server is waited for
  until it is quiet, and stopped (SIGSTOP) until its next turn; `stopped_cpu` is what all that were stopped used.
"""

import argparse
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import serving_peers, serving_sides, tables
from benchmarks.serving_figures import Cell, check, percentile, ratio, table
from benchmarks.serving_load import Load, Turn
from benchmarks.serving_metrics import LATE, REQUESTS, Times
from benchmarks.serving_raw import Raw
from benchmarks.serving_sides import Side
from benchmarks.serving_texts import Workload, cache_folder, prepare
from benchmarks.serving_variants import EQUAL, FAST, version_of
from fairlead.formats.model import read_manifest
from fairlead.variants.opening import variant_to_serve

CLIENTS = (1, 32, 64)
WARMING_SECONDS, IDLE_SECONDS = 1.0, 2.0
OVERLOAD = 1.5
PEER, PEER_BF16, PEER_WORKERS = "KServe + pipeline, defaults", "KServe + pipeline, bf16", "KServe + pipeline, 2 workers"
MLSERVER, HUGGINGFACE = "MLServer, defaults", "KServe huggingfaceserver, defaults"
OURS, OURS_FP32 = "Fairlead", "Fairlead, fp32"


@dataclass(frozen=True)
class Plan:
    """How long it takes."""

    seconds: float
    rounds: int


QUICK, FULL = Plan(4.0, 2), Plan(8.0, 5)


class Measurement:
    """All sides, and what they did so far."""

    def __init__(self, workload: Workload, sides: Sequence[Side], raw: Sequence[Raw]) -> None:
        self.workload, self.sides, self.raw = workload, sides, raw
        self.cells = {side.name: {clients: Cell() for clients in CLIENTS} for side in sides}
        self.overloaded = Cell()
        self.idle_cpu: dict[str, float] = {}
        self.left_over_cpu = {side.name: 0.0 for side in sides}
        self.stopped_cpu = 0.0
        address = next(side.address for side in sides if side.name == OURS)
        self.times = Times(address, **{REQUESTS: {"status": "429"}, LATE: {}})
        self._texts = {side.name: side.requests(workload.texts) for side in sides}

    def go_round(self, number: int, seconds: float) -> None:
        """One turn of every side at every number of clients, of the raw engine, and one of overload."""
        for clients, side in itertools.product(CLIENTS, self.sides):
            load = Load(side.address, self._texts[side.name], self._order(number))
            cell = self.cells[side.name][clients]
            with self._turn_of(side, self.times if (side.name, clients) == (OURS, 64) else nullcontext()):
                before = side.cpu_seconds()
                turn = load.closed(clients, seconds, WARMING_SECONDS, (side.live, side.ready))
                self._count(cell, side, turn, side.cpu_seconds() - before)
            print(f"{side.name}, {clients} clients: {cell.rates[-1]:.1f}/s", file=sys.stderr, flush=True)
        for raw in self.raw:
            raw.take_turn(seconds)
        self._overload(number, seconds)

    def _overload(self, number: int, seconds: float) -> None:
        side = next(side for side in self.sides if side.name == OURS)
        gaps = iter(np.random.default_rng(number).exponential(size=100_000).tolist())
        load = Load(side.address, self._texts[side.name], self._order(number))
        with self._turn_of(side, self.times):
            turn = load.opened(OVERLOAD * self.cells[OURS][64].rate, seconds, WARMING_SECONDS, gaps)
        self._count(self.overloaded, side, turn, 0.0)

    def begin(self, folder: Path) -> None:
        """Start one side after the other, see what it uses while nobody asks it, and stop it until its turn.

        Not all at once: a server that measures what the machine can do would measure the others' start.
        """
        for side in self.sides:
            side.start(folder)
            side.wait(folder)
            side.settle()
            before = side.cpu_seconds()
            time.sleep(IDLE_SECONDS)
            self.idle_cpu[side.name] = (side.cpu_seconds() - before) / IDLE_SECONDS
            side.sleep()
            print(f"{side.name}: {self.idle_cpu[side.name]:.3f} CPUs while idle", file=sys.stderr, flush=True)

    @contextmanager
    def _turn_of(self, side: Side, times: AbstractContextManager[None]) -> Iterator[None]:
        stopped = [other for other in self.sides if other is not side]
        before = sum(other.cpu_seconds() for other in stopped)
        with side.awake():
            with times:
                yield
            self.left_over_cpu[side.name] = max(self.left_over_cpu[side.name], side.settle())
        self.stopped_cpu += sum(other.cpu_seconds() for other in stopped) - before

    def _count(self, cell: Cell, side: Side, turn: Turn, cpu: float) -> None:
        cell.add(turn, cpu * turn.seconds / (turn.seconds + WARMING_SECONDS), self.workload, side.read)

    def _order(self, number: int) -> Iterator[int]:
        """Every turn of a round begins with the same text."""
        begin = 97 * number % len(self.workload.texts)
        return itertools.islice(itertools.cycle(range(len(self.workload.texts))), begin, None)

    def figures(self) -> dict[str, float | None]:
        """The named ones."""
        ours, fp32 = self.cells[OURS], self.cells[OURS_FP32]
        peer, bests = self.cells[PEER], [self.cells[name] for name in (PEER_BF16, PEER_WORKERS) if name in self.cells]
        others = {"vs_kserve_huggingface": HUGGINGFACE, "vs_mlserver": MLSERVER}
        unloaded = percentile(ours[1].latencies, 99)
        raw = max((float(np.median(one.rates)) for one in self.raw), default=None)
        refusals = [*self.overloaded.refusals, *ours[64].refusals]
        return {
            **_by_cpu(self.cells, self.raw),
            "vs_peer_default": _times_as_fast(ours, [peer]),
            "vs_peer_best": _times_as_fast(ours, bests),
            "fp32_vs_peer_default": _times_as_fast(fp32, [peer]),
            **{key: _times_as_fast(ours, [self.cells[name]]) for key, name in others.items() if name in self.cells},
            "of_raw_engine": ratio(min(ours[n].rate for n in (32, 64)), raw),
            "live_p99_ms": percentile(ours[64].live, 99),
            "ready_p99_ms": percentile(ours[64].ready, 99),
            "p50_at_1_vs_peer": ratio(percentile(ours[1].latencies, 50), percentile(peer[1].latencies, 50)),
            "p99_over_unloaded": ratio(percentile(ours[64].latencies, 99), unloaded),
            "refused_share": ours[64].figures()["refused_share"],
            "refusal_ms": percentile(refusals, 99),
            "refusal_at_server_ms": self.times.percentile_ms(REQUESTS, 99),
            "refusals_over_10_ms": self.times.share_above(REQUESTS, 0.01),
            "loop_late_ms": self.times.percentile_ms(LATE, 99),
            "overload_p99_over_unloaded": ratio(percentile(self.overloaded.latencies, 99), unloaded),
            "overload_refused_share": self.overloaded.figures()["refused_share"],
            "errors": sum(cell.errors for cell in (*ours.values(), *fp32.values(), self.overloaded)),
            "generator_cpu_share": max(max(c.generator_cpu) for cells in self.cells.values() for c in cells.values()),
            "raw_texts_per_second": raw,
            "stopped_cpu": self.stopped_cpu,
        }


def _times_as_fast(ours: dict[int, Cell], others: Sequence[dict[int, Cell]]) -> float | None:
    """Over the best of the others at 32 and at 64 clients; the lesser of the two. None where one answered nothing."""
    best = {n: max((other[n].rate for other in others), default=0.0) for n in (32, 64)}
    return min(ours[n].rate / best[n] for n in best) if all(best.values()) else None


def _by_cpu(cells: dict[str, dict[int, Cell]], raw: Sequence[Raw]) -> dict[str, float | None]:
    """Of a side's CPU time a text over ours: what remains comparable on a machine that does much else."""
    spent = {name: max(by[n].cpu_per_text for n in (32, 64)) for name, by in cells.items()}
    return {
        "cpu_vs_peer_default": ratio(spent[PEER], spent[OURS]),
        "cpu_vs_peer_best": ratio(
            min((spent[n] for n in (PEER_BF16, PEER_WORKERS) if n in spent), default=None), spent[OURS]
        ),
        "fp32_cpu_vs_peer_default": ratio(spent[PEER], spent[OURS_FP32]),
        "cpu_of_raw_engine": ratio(min((float(np.median(r.cpu_per_text)) for r in raw), default=None), spent[OURS]),
    }


def main() -> None:
    """Run all sides and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short turns; ends in under 8 minutes")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and leave the page alone")
    parser.add_argument(
        "--version",
        type=Path,
        help="folder of an optimized version: its weights are served by all, its choice by Fairlead",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes of Fairlead. Default: %(default)s")
    parser.add_argument("--install-peers", action="store_true", help="make the environment of MLServer first (2 GB)")
    parser.add_argument("--kserve-src", type=Path, help="source tree of KServe, whose huggingfaceserver is a peer then")
    parser.add_argument("--only", nargs="*", default=[], help="sides to run beside Fairlead's, by a part of their name")
    parser.add_argument(
        "--cache", type=Path, default=cache_folder(), help="keeps model and peers. Default: %(default)s"
    )
    arguments = parser.parse_args()
    # The servers are in groups of their own, and end only when this program ends them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        report = measure(arguments, Path(folder))
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    print(report["table"])
    if not arguments.only:
        tables.write(
            "serving", "python -m benchmarks.serving" + (" --quick" if arguments.quick else ""), report["table"]
        )


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Start all sides, let them take turns; returns figures, cells and the table."""
    workload = prepare(arguments.cache, arguments.version)
    if arguments.version:
        version, variant = workload.folder, variant_to_serve(read_manifest(workload.folder))
    else:
        version, variant = version_of(workload, FAST)
    sides = _sides(arguments, workload, version, folder)
    raw: list[Raw] = []
    plan = QUICK if arguments.quick else FULL
    try:
        measurement = Measurement(workload, sides, raw)
        measurement.begin(folder)
        cores = os.cpu_count() or 1
        raw += [Raw(version, workload.texts, *shared) for shared in {(cores, 1), (1, cores)}]
        for number in range(plan.rounds):
            measurement.go_round(number, plan.seconds)
    finally:
        stops: list[Callable[[], None]] = [*(side.stop for side in sides), *(one.stop for one in raw)]
        for stop in stops:
            stop()
    return _report(measurement, variant)


def _report(measurement: Measurement, variant: str) -> dict[str, Any]:
    for name, cells in measurement.cells.items():
        check(name, cells, equal=name == OURS_FP32)
    named = measurement.figures()
    return {
        **named,
        "variant": variant,
        "idle_cpu": measurement.idle_cpu,
        "left_over_cpu": measurement.left_over_cpu,
        "load_of_machine": os.getloadavg()[1],
        "halt_poll_ns": _halt_poll_ns(),
        "sides": {
            name: {str(clients): cell.figures() for clients, cell in cells.items()}
            for name, cells in measurement.cells.items()
        },
        "overload": measurement.overloaded.figures(),
        "table": f"Variant: {variant}. {table(measurement.cells, named['raw_texts_per_second'], named)}"
        f"\n\n{_idle(measurement)}",
    }


def _halt_poll_ns() -> int | None:
    """How long a virtual processor that waits polls before it halts and loses its core; None where it does not say.

    https://docs.kernel.org/virt/guest-halt-polling.html
    """
    setting = Path("/sys/module/haltpoll/parameters/guest_halt_poll_ns")
    return int(setting.read_text()) if setting.exists() else None


def _idle(measurement: Measurement) -> str:
    used = ", ".join(
        f"{name} {cpus:.3f} and {measurement.left_over_cpu[name]:.2f} s" for name, cpus in measurement.idle_cpu.items()
    )
    return f"CPUs used while nobody asked, and CPU seconds after a turn, before the server was stopped: {used}."


def _sides(arguments: argparse.Namespace, workload: Workload, version: Path, folder: Path) -> list[Side]:
    weights, longest = workload.folder, ("--max_length", str(workload.max_length))
    peers = [
        serving_sides.kserve_pipeline(PEER, weights, *longest),
        serving_sides.kserve_pipeline(PEER_BF16, weights, *longest, "--dtype", "bfloat16"),
        serving_sides.kserve_pipeline(PEER_WORKERS, weights, *longest, "--workers", "2", threads=1),
    ]
    if source := arguments.kserve_src:
        peers.append(serving_sides.kserve_huggingface(HUGGINGFACE, source.resolve(), weights, workload.max_length))
    install = serving_peers.install if arguments.install_peers else serving_peers.installed
    if python := install("mlserver", arguments.cache):
        peers.append(serving_sides.mlserver(MLSERVER, python, weights, folder / "mlserver"))
    chosen = [peer for peer in peers if peer.name == PEER or _wanted(peer.name, arguments.only)]
    equal, project = version_of(workload, EQUAL)[0], workload.project
    return [
        *chosen,
        serving_sides.fairlead(OURS, version, project, arguments.workers),
        serving_sides.fairlead(OURS_FP32, equal, project, arguments.workers),
    ]


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(part in name for part in only)


if __name__ == "__main__":
    main()
