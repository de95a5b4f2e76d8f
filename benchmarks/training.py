"""How fast does Fairlead train, against the Hugging Face Trainer at its defaults and at its best?

    python -m benchmarks.training [--quick] [--json] [--only minilm bert-base] [--set precision=bf16 ...]

Every side trains the same weights on as many examples of the same split, in a process of its own. The sides take turns
of some examples each, so that all of them meet the same neighbours on the machine, and each turn begins with a
measurement of the matmul ceiling. Figures of a workload:

- `vs_trainer_default`, `vs_trainer_best`: Fairlead's useful (non-padding) tokens/s over the Trainer's,
- `of_matmul_ceiling`: model FLOP utilisation, 6 operations a weight of the layers and token, and
  12 x layers x width x length^2 a text for attention (Kaplan et al., 2020), over what bf16 matrices of 2048 x 2048
  reach in the same minutes with the same threads,
- `padding_share`: share of the computed tokens that are padding, `loss_gap`: Fairlead's validation loss less
  that of the Trainer at its best.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.training_data import Workload, full_workloads, prepare, quick_workloads
from fairlead import openmp
from fairlead.training.config import TrainConfig
from fairlead.training.launching.distributed import num_threads

# Both good sides: what a batch of 32 likes. The Trainer's defaults keep their own batch of 8 and rate of 5e-5.
LEARNING_RATE, BATCH_SIZE = 1e-4, 32
# A side that has trained so long sits out the turns that are left: its rate is known, its last score is that of then.
PATIENCE_SECONDS = 150.0
DEFAULT, BEST, FAIRLEAD = "Trainer, defaults", "Trainer, best", "Fairlead"


@dataclass
class Side:
    """A process that trains, and what it reported after each turn."""

    name: str
    kind: str
    arguments: dict[str, Any]
    threads: int | None
    process: subprocess.Popen[str] | None = None
    turns: list[dict[str, Any]] = field(default_factory=list)

    def start(self, job: dict[str, Any], folder: Path) -> None:
        """Start the process and wait until it is ready."""
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(job | {"kind": self.kind, "arguments": self.arguments, "threads": self.threads}))
        command = [sys.executable, "-m", "benchmarks.training_sides", str(path)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if self.kind != "trainer" or self.name == BEST:
            environment |= openmp.environment()
        if self.threads:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        log = (folder / f"{self.name}.log").open("w")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self._read(log.name)

    @property
    def seconds(self) -> float:
        """What its turns took."""
        return sum(turn["seconds"] for turn in self.turns)

    def take_turn(self) -> dict[str, Any]:
        """Let it train one turn; returns its report."""
        assert self.process
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.turns.append(self._read(f"{self.name}, turn {len(self.turns) + 1}"))
        return self.turns[-1]

    def stop(self) -> None:
        """End the process; one that waits for a turn ends when its input does."""
        if self.process is not None:
            assert self.process.stdin
            self.process.stdin.close()
            self.process.wait(60)

    def _read(self, where: str) -> dict[str, Any]:
        assert self.process
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("TURN "):
                return dict(json.loads(line[5:]))
        raise SystemExit(f"{where}: {self.name} ended with code {self.process.wait()}")


def main() -> None:
    """Run the workloads and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the examples; ends in under 8 minutes")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and leave the page alone")
    parser.add_argument("--only", nargs="*", default=[], help="bases to run: minilm, bert-base")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of Fairlead's training")
    arguments = parser.parse_args()
    workloads = [
        w
        for w in (quick_workloads if arguments.quick else full_workloads)()
        if not arguments.only or w.base in arguments.only
    ]
    settings = dict(setting.split("=", 1) for setting in arguments.set)
    results = []
    for workload in workloads:
        with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
            results.append(measure(workload, settings, Path(folder)))
    if arguments.json:
        print(json.dumps({w.base: r for w, r in zip(workloads, results, strict=True)}, indent=2))
        return
    table = "\n\n".join(_table(w, r) for w, r in zip(workloads, results, strict=True))
    print(table)
    if not arguments.only and not arguments.set:
        tables.write("training", "python -m benchmarks.training" + (" --quick" if arguments.quick else ""), table)


def measure(workload: Workload, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one workload on every side, in turns; returns the named figures and those of each side."""
    prepare(workload, folder)
    job = {"model": str(folder / "model"), "tokens": str(folder / "tokens"), "train": workload.train}
    threads = num_threads(TrainConfig.parse(settings), 1)
    ceiling = Side("bf16 matmul", "matmul", {}, threads)
    sides = _sides(settings, threads)
    try:
        for side in (ceiling, *sides):
            side.start(job | {"turn": workload.turn, "dtype": "bfloat16"}, folder)
        for _ in range(-(-workload.train // workload.turn)):
            ceiling.take_turn()
            for side in sides:
                if side.seconds < PATIENCE_SECONDS:
                    _say(workload, side, side.take_turn())
    finally:
        for side in (ceiling, *sides):
            side.stop()
    return _figures(workload, folder, sides, statistics.median(t["flops"] for t in ceiling.turns), threads)


def _sides(settings: dict[str, Any], threads: int) -> list[Side]:
    best = {
        "bf16": True,
        "train_sampling_strategy": "group_by_length",
        "per_device_train_batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "warmup_steps": TrainConfig().warmup_share,
        "weight_decay": TrainConfig().weight_decay,
    }
    ours = {"batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE, "precision": "bf16"} | settings
    return [
        Side(DEFAULT, "trainer", {}, None),
        Side(BEST, "trainer", best, threads),
        Side(FAIRLEAD, "fairlead", ours, threads),
    ]


def _say(workload: Workload, side: Side, report: dict[str, Any]) -> None:
    rate = workload.turn / report["seconds"]
    line = f"{workload.base}: {side.name}: {report['examples']} examples, {rate:.2f}/s, loss {report['loss']:.3f}"
    print(line, file=sys.stderr, flush=True)


def _figures(workload: Workload, folder: Path, sides: list[Side], ceiling: float, threads: int) -> dict[str, Any]:
    config = json.loads((folder / "model" / "config.json").read_text("utf-8"))
    by_name = {side.name: _side_figures(workload, side, config, ceiling) for side in sides}
    ours, best = by_name[FAIRLEAD], by_name[BEST]
    return {
        "vs_trainer_default": ours["tokens_per_second"] / by_name[DEFAULT]["tokens_per_second"],
        "vs_trainer_best": ours["tokens_per_second"] / best["tokens_per_second"],
        "of_matmul_ceiling": ours["mfu"],
        "padding_share": ours["padding_share"],
        "loss_gap": ours["loss"] - best["loss"],
        "bf16_matmul_gflops": ceiling / 1e9,
        "threads": threads,
        "sides": by_name,
    }


def _side_figures(workload: Workload, side: Side, config: dict[str, Any], ceiling: float) -> dict[str, Any]:
    last, seconds = side.turns[-1], side.seconds
    elapsed = np.cumsum([turn["seconds"] for turn in side.turns])
    reached = [i for i, turn in enumerate(side.turns) if workload.target and turn["accuracy"] >= workload.target]
    return {
        "tokens_per_second": last["useful"] / seconds,
        "mfu": _operations(last["useful"], last["squares"], config) / seconds / ceiling,
        "padding_share": 1 - last["useful"] / last["computed"],
        "examples": last["examples"],
        "peak_bytes": last["peak_bytes"],
        "loss": last["loss"],
        "accuracy": last["accuracy"],
        "seconds_to_target": float(elapsed[reached[0]]) if reached else None,
    }


def _operations(tokens: int, squares: int, config: dict[str, Any]) -> float:
    """Forward and backward, over texts of so many `tokens`, whose squared lengths sum to `squares`."""
    layers, width, inner = (config[k] for k in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    return float(6 * layers * (4 * width**2 + 2 * width * inner) * tokens + 12 * layers * width * squares)


def _table(workload: Workload, result: dict[str, Any]) -> str:
    score = f"s to accuracy {workload.target}" if workload.target else "s to a score"
    header = ["side", "useful tokens/s", "MFU", "padding", "peak memory", "validation loss", score]
    rows = [
        [
            name,
            f"{r['tokens_per_second']:.0f}",
            f"{r['mfu']:.1%}",
            f"{r['padding_share']:.1%}",
            f"{r['peak_bytes'] / 2**30:.2f} GiB",
            f"{r['loss']:.4f}",
            "-" if r["seconds_to_target"] is None else f"{r['seconds_to_target']:.0f}",
        ]
        for name, r in result["sides"].items()
    ]
    examples = result["sides"][DEFAULT]["examples"]
    names = ("vs_trainer_default", "vs_trainer_best", "of_matmul_ceiling", "padding_share", "loss_gap")
    figures = ", ".join(f"`{name}` {result[name]:.3f}" for name in names)
    ceiling = f"bf16 ceiling {result['bf16_matmul_gflops']:.0f} GFLOP/s"
    note = f"{workload.train} examples, Trainer's defaults {examples}, {result['threads']} threads, {ceiling}"
    return f"**{workload.name}** ({note}): {figures}\n\n{tables.markdown(header, rows)}"


if __name__ == "__main__":
    main()
