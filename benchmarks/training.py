"""How fast does Fairlead train, against the Hugging Face Trainer at its defaults and at its best?

    python -m benchmarks.training [--quick] [--json] [--only minilm bert-base gpt scaling] [--set precision=bf16 ...]

Every side trains the same weights on as many examples of the same split, in a process of its own. The sides take turns
of some examples each, so that all of them meet the same neighbours on the machine, and each turn begins with a
measurement of the matmul ceiling. Figures of a workload:

- `vs_trainer_default`, `vs_trainer_best`: Fairlead's useful (non-padding) tokens/s over the Trainer's. At its best it
  has Fairlead's batches (32, of BERT-base 16) grouped by length, a thread for each core that Fairlead uses, and bf16
  where that is measured to be the faster arithmetic, as `precision: auto` does. Fairlead has the processes and threads
  that it chooses by itself for a run over RUN_EXAMPLES examples, of which a slice is trained here; what a process costs
  to start is in no side's time,
- `of_matmul_ceiling`: model FLOP utilisation, 6 operations a token and weight that it is multiplied with, and
  12 x layers x width x length^2 a text for attention (Kaplan et al., 2020), over what matrices of 2048 x 2048 reach in
  the same minutes in as many processes and threads as Fairlead has, in bf16 or fp32, whichever is more;
  `trainer_of_matmul_ceiling` likewise,
- `peak memory` is the sum of the peaks of all processes of a side; pages that they share count in each,
- `padding_share`: share of the computed tokens that are padding, `loss_gap`: Fairlead's validation loss less
  that of the Trainer at its best, after as many examples (the last turn that both took),
- `cpu_vs_trainer_best`: the same ratio as `vs_trainer_best` by processor time, for a machine that does much else,
- `seconds_to_target`: seconds to the validation loss that the table names, the same for all sides, on a straight line
  between the turns around it; null where it was not reached. `vs_trainer_best_to_target` is the Trainer's over ours.

`scaling` trains MiniLM in one process and in two of one thread each, in turns: `efficiency` is the rate of two over
twice that of one, `matmul_efficiency` the same of processes that multiply matrices and share nothing.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import tables
from benchmarks.training_data import Workload, full_workloads, prepare, quick_workloads
from fairlead import openmp
from fairlead.formats import tokens as token_format
from fairlead.training.batching.blocks import open_rows
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching.calibration import Cores
from fairlead.training.launching.cores import decide, make_work
from fairlead.training.precision import has_fast_bf16

# With its defaults the Trainer sits out the turns that are left when it has trained so long: its batches are random, so
# its rate is known, and its last score is that of then. Grouped by length the longest texts come first: at its best it
# has to take all turns.
PATIENCE_SECONDS = {True: 30.0, False: 200.0}
SCALING = "scaling"
# Those of the run whose processes Fairlead chooses: four epochs of ten thousand rows, as banking77 has.
RUN_EXAMPLES = 40_000
DEFAULT, BEST, FAIRLEAD = "Trainer, defaults", "Trainer, best", "Fairlead"


@dataclass
class Side:
    """A process that trains, and what it reported after each turn."""

    name: str
    kind: str
    arguments: dict[str, Any]
    threads: int | None
    world_size: int = 1
    process: subprocess.Popen[str] | None = None
    turns: list[dict[str, Any]] = field(default_factory=list)
    log: Path = Path(os.devnull)

    def start(self, job: dict[str, Any], folder: Path) -> None:
        """Start the process and wait until it is ready."""
        path = folder / f"{self.name}.json"
        own = {name: getattr(self, name) for name in ("kind", "arguments", "threads", "world_size")}
        path.write_text(json.dumps(job | own))
        command = [sys.executable, "-m", "benchmarks.training_sides", str(path)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if self.kind != "trainer" or self.name == BEST:
            environment |= openmp.environment()
        if self.threads:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        self.log = folder / f"{self.name}.log"
        with self.log.open("w") as log:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self._read("start")

    @property
    def seconds(self) -> float:
        """What its turns took."""
        return sum(turn["seconds"] for turn in self.turns)

    def take_turn(self) -> dict[str, Any]:
        """Let it train one turn; returns its report."""
        self.begin_turn()
        return self.end_turn()

    def begin_turn(self) -> None:
        """Let it go on."""
        assert self.process
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end_turn(self) -> dict[str, Any]:
        """Wait for its report."""
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
        last = (self.log.read_text("utf-8", "replace").strip() or "nothing").splitlines()[-1]
        raise SystemExit(f"{where}: {self.name} ended with code {self.process.wait()}; its last line: {last}")


def main() -> None:
    """Run the workloads and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few examples; ends in under 8 minutes")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and leave the page alone")
    parser.add_argument("--only", nargs="*", default=[], help="what to run: minilm, bert-base, gpt, scaling")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of Fairlead's training")
    arguments = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in arguments.set)
    workloads = (quick_workloads if arguments.quick else full_workloads)()
    found: dict[str, dict[str, Any]] = {}
    written: list[str] = []
    precision = settings.get("precision") or ("bf16" if has_fast_bf16(torch.device("cpu")) else "fp32")
    for workload in workloads:
        if not arguments.only or workload.base in arguments.only:
            with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
                found[workload.base] = measure(workload, settings, precision, arguments.quick, Path(folder))
            written.append(_table(workload, found[workload.base]))
    if not arguments.only or SCALING in arguments.only:
        with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
            half = replace(workloads[0], train=workloads[0].train // 2)
            found[SCALING] = scaling(half, settings, precision, Path(folder))
        written.append(_scaling_sentence(found[SCALING]))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    table = "\n\n".join(written)
    print(table)
    if not arguments.only and not arguments.set:
        tables.write("training", "python -m benchmarks.training" + (" --quick" if arguments.quick else ""), table)


def measure(workload: Workload, settings: dict[str, Any], precision: str, quick: bool, folder: Path) -> dict[str, Any]:
    """Train one workload on every side, in turns; returns the named figures and those of each side."""
    prepare(workload, folder)
    cores = _cores(workload, _ours(workload, settings, precision), folder)
    ceiling = [Side(f"matmul {n}", "matmul", {}, cores.threads) for n in range(cores.processes)]
    sides = _sides(workload, settings, precision, cores)
    try:
        for side in (*ceiling, *sides):
            side.start(_job(workload, folder), folder)
        for _ in range(-(-workload.train // workload.turn)):
            _multiply(ceiling)
            for side in sides:
                if side.name != DEFAULT or side.seconds < PATIENCE_SECONDS[quick]:
                    _say(workload, side, side.take_turn())
    finally:
        for side in (*ceiling, *sides):
            side.stop()
    return _figures(workload, folder, sides, ceiling) | {"precision": precision, **asdict(cores)}


def _multiply(sides: list[Side]) -> None:
    """Let all of them multiply matrices at the same time."""
    for side in sides:
        side.begin_turn()
    for side in sides:
        side.end_turn()


def _cores(workload: Workload, ours: dict[str, Any], folder: Path) -> Cores:
    """What Fairlead chooses for a whole run, unless it is set."""
    tokens = folder / "tokens"
    manifest = token_format.read_manifest(tokens)
    config = TrainConfig.parse(ours)
    mean_length = float(open_rows(tokens, manifest, "train", TrainConfig(epochs=1)).lengths.mean())
    steps = RUN_EXAMPLES // config.batch_size
    work = make_work(ModelConfig(), folder / "model", manifest, round(mean_length * RUN_EXAMPLES), steps)
    with contextlib.redirect_stdout(sys.stderr):
        return decide(config, None, lambda: work)


def scaling(workload: Workload, settings: dict[str, Any], precision: str, folder: Path) -> dict[str, Any]:
    """Train with one process and with two, of one thread each, and multiply matrices in one process and in two."""
    prepare(workload, folder)
    ours = _ours(workload, settings, precision)
    one, two = (Side(f"{n} processes", "fairlead", ours, 1, n) for n in (1, 2))
    first, second = (Side(f"matmul {n}", "matmul", {}, 1) for n in (1, 2))
    sides = (one, two, first, second)
    alone, together = [], []
    try:
        for side in sides:
            side.start(_job(workload, folder), folder)
        for _ in range(-(-workload.train // workload.turn)):
            for side in (one, two):
                _say(workload, side, side.take_turn())
            alone.append(first.take_turn()[precision])
            _multiply([first, second])
            together.append(first.turns[-1][precision] + second.turns[-1][precision])
    finally:
        for side in sides:
            side.stop()
    rates = [side.turns[-1]["useful"] / side.seconds for side in (one, two)]
    matmul = statistics.median(together) / statistics.median(alone) / 2
    return {"tokens_per_second": rates, "efficiency": rates[1] / rates[0] / 2, "matmul_efficiency": matmul}


def _job(workload: Workload, folder: Path) -> dict[str, Any]:
    sizes = {"train": workload.train, "validation": workload.validation, "turn": workload.turn}
    return {"model": str(folder / "model"), "tokens": str(folder / "tokens"), **sizes}


def _sides(workload: Workload, settings: dict[str, Any], precision: str, cores: Cores) -> list[Side]:
    best: dict[str, Any] = {
        "bf16": precision == "bf16",
        "per_device_train_batch_size": workload.batch_size,
        "learning_rate": workload.learning_rate,
        "warmup_steps": TrainConfig().warmup_share,
        "weight_decay": TrainConfig().weight_decay,
    }
    if not workload.is_language:
        best["train_sampling_strategy"] = "group_by_length"
    return [
        Side(DEFAULT, "trainer", {}, None),
        Side(BEST, "trainer", best, cores.processes * cores.threads),
        Side(FAIRLEAD, "fairlead", _ours(workload, settings, precision), cores.threads, cores.processes),
    ]


def _ours(workload: Workload, settings: dict[str, Any], precision: str) -> dict[str, Any]:
    own = {"batch_size": workload.batch_size, "learning_rate": workload.learning_rate, "precision": precision}
    return own | settings


def _say(workload: Workload, side: Side, report: dict[str, Any]) -> None:
    rate = workload.turn / report["seconds"]
    line = f"{workload.base}: {side.name}: {report['examples']} examples, {rate:.2f}/s, loss {report['loss']:.3f}"
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Shape:
    """What a model computes a token with."""

    weights: int
    """Those that every token is multiplied with: of the layers, and of a language model's output."""
    layers: int
    width: int

    def operations(self, tokens: int, squares: int) -> float:
        """Forward and backward, over texts of so many `tokens`, whose squared lengths sum to `squares`."""
        return float(6 * self.weights * tokens + 12 * self.layers * self.width * squares)


def _figures(workload: Workload, folder: Path, sides: list[Side], ceiling: list[Side]) -> dict[str, Any]:
    turns = list(zip(*(side.turns for side in ceiling), strict=True))
    rates = {name: statistics.median(sum(each[name] for each in turn) for turn in turns) for name in ("bf16", "fp32")}
    shape = _shape(folder / "model")
    by_name = {side.name: _side_figures(workload, side, shape, max(rates.values())) for side in sides}
    ours, best = by_name[FAIRLEAD], by_name[BEST]
    return {
        "vs_trainer_default": ours["tokens_per_second"] / by_name[DEFAULT]["tokens_per_second"],
        "vs_trainer_best": ours["tokens_per_second"] / best["tokens_per_second"],
        "of_matmul_ceiling": ours["mfu"],
        "trainer_of_matmul_ceiling": best["mfu"],
        "padding_share": ours["padding_share"],
        "loss_gap": _loss_gap(sides),
        "seconds_to_target": ours["seconds_to_target"],
        "vs_trainer_best_to_target": _ratio(best["seconds_to_target"], ours["seconds_to_target"]),
        # On a machine that does much else the clock is the neighbours'; with one thread this ratio is not.
        "cpu_vs_trainer_best": ours["tokens_per_cpu_second"] / best["tokens_per_cpu_second"],
        "matmul_gflops": {name: rate / 1e9 for name, rate in rates.items()},
        "sides": by_name,
    }


def _ratio(theirs: float | None, ours: float | None) -> float | None:
    return theirs / ours if theirs and ours else None


def _loss_gap(sides: list[Side]) -> float:
    """After the last turn that both took: one that ran out of patience trained on fewer examples."""
    turns = {side.name: side.turns for side in sides}
    taken = min(len(turns[FAIRLEAD]), len(turns[BEST]))
    ours, best = turns[FAIRLEAD][taken - 1], turns[BEST][taken - 1]
    return float(ours["loss"] - best["loss"])


def _side_figures(workload: Workload, side: Side, shape: Shape, ceiling: float) -> dict[str, Any]:
    last, seconds = side.turns[-1], side.seconds
    return {
        "tokens_per_second": last["useful"] / seconds,
        "tokens_per_cpu_second": last["useful"] / sum(turn["cpu_seconds"] for turn in side.turns),
        "mfu": shape.operations(last["useful"], last["squares"]) / seconds / ceiling,
        "padding_share": 1 - last["useful"] / last["computed"],
        "examples": last["examples"],
        "peak_bytes": last["peak_bytes"],
        "loss": last["loss"],
        "accuracy": last["accuracy"],
        "seconds_to_target": workload.seconds_to_target(side.turns),
    }


def _shape(model: Path) -> Shape:
    config = json.loads((model / "config.json").read_text("utf-8"))
    layers, width, inner = (config[k] for k in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    is_language = config["model_type"] == "llama"
    # A gated feed-forward part has three matrices.
    weights = layers * (4 * width**2 + (3 if is_language else 2) * width * inner)
    return Shape(weights + is_language * width * config["vocab_size"], layers, width)


def _scaling_sentence(found: dict[str, Any]) -> str:
    one, two = found["tokens_per_second"]
    return (
        f"**Processes** (MiniLM, one thread each): 1 trains {one:.0f} useful tokens/s, 2 train {two:.0f}: efficiency "
        f"{found['efficiency']:.0%}; of two processes that multiply matrices and share nothing: "
        f"{found['matmul_efficiency']:.0%}"
    )


def _table(workload: Workload, result: dict[str, Any]) -> str:
    score = f"s to loss {workload.target}"
    header = [
        "side",
        "examples",
        "useful tokens/s",
        "a CPU second",
        "MFU",
        "padding",
        "peak memory",
        "validation loss",
        score,
    ]
    rows = [
        [
            name,
            str(r["examples"]),
            f"{r['tokens_per_second']:.0f}",
            f"{r['tokens_per_cpu_second']:.0f}",
            f"{r['mfu']:.1%}",
            f"{r['padding_share']:.1%}",
            f"{r['peak_bytes'] / 2**30:.2f} GiB",
            f"{r['loss']:.4f}",
            "-" if r["seconds_to_target"] is None else f"{r['seconds_to_target']:.0f}",
        ]
        for name, r in result["sides"].items()
    ]
    names = (
        *("vs_trainer_default", "vs_trainer_best", "cpu_vs_trainer_best", "of_matmul_ceiling"),
        *("trainer_of_matmul_ceiling", "padding_share", "loss_gap"),
    )
    figures = ", ".join(f"`{name}` {result[name]:.3f}" for name in names)
    bf16, fp32 = (result["matmul_gflops"][name] for name in ("bf16", "fp32"))
    note = (
        f"{result['precision']}, Fairlead in {result['processes']} process(es) of {result['threads']} thread(s), the "
        f"Trainer at its best with {result['processes'] * result['threads']}, matmul {fp32:.0f} GFLOP/s in fp32, "
        f"{bf16:.0f} in bf16"
    )
    return f"**{workload.name}** ({note}): {figures}\n\n{tables.markdown(header, rows)}"


if __name__ == "__main__":
    main()
