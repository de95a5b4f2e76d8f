"""The kill matrix: training that is killed again and again, at moments drawn by a seed, ends with the same weights.

    python -m tests.kills.matrix --kills 200 --seed 0

Every kill is aimed at a moment (a step, a validation, a checkpoint being written, the start of the next
attempt) and counted where it landed. A run takes several kills, and is then left to end. Runs take turns in what else
they carry from step to step: averages of the weights and a normalised head, or weights that are sharded.
"""

import argparse
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.formats import tokens as token_format
from fairlead.formats.atomic import write_json
from fairlead.formats.model import TrainingRecord
from fairlead.registry import open_registry
from fairlead.training import run as stage
from fairlead.training.checkpoints.finished import read_finished
from fairlead.training.checkpoints.format import open_checkpoints
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching.job import Job
from tests.kills.nursery import Nursery
from tests.kills.phases import PHASES, Board
from tests.registry import samples
from tests.training.corpus import Corpus

KILLS_OF_A_RUN = 5
# A run that gets no further in so many attempts never ends.
MAX_ATTEMPTS = 40
SECONDS_BETWEEN_LOOKS = 0.0005
# Twice what a step, a validation or a checkpoint takes: some kills are late, and land in what follows.
MAX_DELAY_SECONDS = 0.02
AIMS, TARGETS = ("step", "evaluation", "checkpoint"), ("one rank", "all ranks", "launcher")
SETTINGS = {
    "epochs": 4,
    "batch_size": 8,
    "micro_batch_tokens": 32,
    "learning_rate": 3e-3,
    "threads": 1,
    "eval_every_steps": 4,
    "checkpoint_every_steps": 3,
    "patience": 6,
    "metric": "loss",
}
# What runs have beside SETTINGS: of training, and of the model.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "averages and head norm": ({"ema_decay": 0.9}, {"classifier_norm": "batch"}),
    "fsdp": ({"parallel": "fsdp", "ema_decay": 0.9}, {"classifier_norm": "batch"}),
}


@dataclass(frozen=True)
class Kill:
    """One kill, before it happens."""

    signal: signal.Signals
    target: str
    aim: str
    count: int
    """How often the aim is entered before the kill."""
    delay: float
    """Seconds from then."""
    again: float | None = None
    """Seconds to the same kill once more; None for once."""

    @property
    def kind(self) -> str:
        return f"{self.signal.name}, {self.target}" + (", twice" if self.again is not None else "")


@dataclass
class Tally:
    """Where the kills landed, by kind."""

    landed: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    attempts: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        counts = (self.missed + other.missed, self.attempts + other.attempts)
        return Tally(self.landed + other.landed, self.runs + other.runs, *counts)

    @property
    def kills(self) -> int:
        return sum(self.landed.values())

    def table(self) -> str:
        """A Markdown table: kinds by rows, the phases in which they landed by columns."""
        kinds = sorted({(kind, world) for kind, world, _ in self.landed})
        lines = [["kill", "ranks", *PHASES, "all"], ["---"] * (len(PHASES) + 3)]
        for kind, world in kinds:
            counts = [self.landed[kind, world, phase] for phase in PHASES]
            lines.append([kind, str(world), *map(str, counts), str(sum(counts))])
        sums = [sum(n for (_, _, at), n in self.landed.items() if at == phase) for phase in PHASES]
        lines.append(["all", "", *map(str, sums), str(self.kills)])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def kills(generator: random.Random, world_size: int) -> Iterator[Kill]:
    """Kills without end: every signal, target and aim in turn, shuffled; one in four comes twice in a row."""
    targets = TARGETS if world_size > 1 else TARGETS[1:]
    kinds = list(itertools.product((signal.SIGKILL, signal.SIGTERM), targets, AIMS))
    while True:
        generator.shuffle(kinds)
        for number, target, aim in kinds:
            count = generator.randint(1, {"step": 9, "evaluation": 3, "checkpoint": 4}[aim])
            delay = generator.uniform(0, MAX_DELAY_SECONDS)
            twice = generator.random() < 0.25
            if twice and number == signal.SIGKILL:
                # Who is dead cannot be killed again: the next attempt is, before its first step.
                yield Kill(number, target, aim, count, delay, again=0.0)
                yield Kill(number, target, "start", 0, generator.uniform(0, 20 * MAX_DELAY_SECONDS), again=0.0)
            else:
                yield Kill(number, target, aim, count, delay, generator.uniform(0, 0.05) if twice else None)


def variants(generator: random.Random) -> Iterator[str]:
    """Names of variants without end, every one in turn, shuffled."""
    names = list(VARIANTS)
    while True:
        generator.shuffle(names)
        yield from names


class Matrix:
    """Runs of one world size, in a folder of their own."""

    def __init__(self, folder: Path, world_size: int, seed: str) -> None:
        self.folder, self.world_size = folder, world_size
        self._aimed = kills(random.Random(f"{seed}-{world_size}"), world_size)
        self._variants = variants(random.Random(f"{seed}-{world_size}-variants"))
        folder.mkdir(parents=True)
        self.corpus = Corpus(folder)
        self.nursery = Nursery(folder / "log")
        self.tally = Tally()
        self.registry = f"sqlite:///{folder / 'registry.db'}"
        self._references: dict[str, TrainingRecord] = {}

    def kill(self, number: int) -> None:
        """Have so many kills; raises AssertionError when a run ends otherwise than the one that was never killed."""
        while self.tally.kills < number:
            left = min(KILLS_OF_A_RUN, number - self.tally.kills)
            variant = next(self._variants)
            name, expected = f"run-{self.tally.runs.total()}", self._reference(variant)
            record = self._finish(name, variant, itertools.islice(self._aimed, left))
            assert _result(record) == _result(expected), f"{name} ({variant}): {_result(record)}\n{self.log()}"
            self.tally.runs[variant] += 1
            shutil.rmtree(self.folder / name)
            print(f"{self.tally.kills}/{number} kills, ranks: {self.world_size}", file=sys.stderr, flush=True)

    def log(self) -> str:
        """The end of what the ranks have printed."""
        return (self.folder / "log").read_text("utf-8", errors="replace")[-4000:]

    def close(self) -> None:
        self.nursery.close()

    def _reference(self, variant: str) -> TrainingRecord:
        """The run of a variant that is never killed."""
        if variant not in self._references:
            with open_registry(self.registry) as registry:
                # All are attempts of one run: its name follows from its inputs.
                samples.start_run(registry, self._plan(variant).run_id, "animals")
            self._references[variant] = self._finish(f"reference {variant}", variant, iter(()))
        return self._references[variant]

    def _finish(self, name: str, variant: str, aimed: Iterator[Kill]) -> TrainingRecord:
        """Start a run, with one kill an attempt, until it has ended."""
        job = self._job(name, variant)
        for _ in range(MAX_ATTEMPTS):
            self._attempt(name, job, next(aimed, None))
            record = read_finished(self.folder / name / "run")
            if record:
                return record
        raise AssertionError(f"{name}: it does not end\n{self.log()}")

    def _attempt(self, name: str, job: Path, kill: Kill | None) -> None:
        path = self.folder / name / "board"
        path.unlink(missing_ok=True)
        board = Board(path, self.world_size)
        environment = {"FAIRLEAD_HOME": str(self.folder / name), "FAIRLEAD_REGISTRY": self.registry}
        pids = self.nursery.launch(job, self.world_size, path, environment)
        phase = step = None
        if kill:
            phase, step = self._strike(kill, board, *pids)
        code = self.nursery.wait()
        self.tally.attempts += 1
        if phase and kill:
            self._check(name, kill, code, phase, step or 0)
            self.tally.landed[kill.kind, self.world_size, phase] += 1
        elif kill:
            self.tally.missed += 1

    def _strike(self, kill: Kill, board: Board, launcher: int, ranks: Sequence[int]) -> tuple[str | None, int]:
        """Wait for the moment, and kill; the phase that it was and the last step done, None when nobody was left."""
        victim = 0
        while kill.count and board.times(victim, kill.aim) < kill.count:
            if not _alive(launcher) or not _alive(ranks[victim]):
                return None, 0
            time.sleep(SECONDS_BETWEEN_LOOKS)
        time.sleep(kill.delay)
        targets = {"one rank": [ranks[-1]], "all ranks": list(ranks), "launcher": [launcher]}[kill.target]
        phase, step = board.phase(victim), board.step(victim)
        if not all(map(_alive, [launcher, *ranks])):
            return None, 0
        _signal(targets, kill.signal)
        if kill.again:
            time.sleep(kill.again)
            _signal(targets, kill.signal)
        return phase, step

    def _check(self, name: str, kill: Kill, code: int, phase: str, step: int) -> None:
        """After SIGTERM everything done by then is kept, and no rank failed."""
        folder = self.folder / name / "run"
        if kill.signal == signal.SIGTERM and phase not in ("start", "finish") and not read_finished(folder):
            assert code == 0, f"{name}: {kill} in {phase} gave exit code {code}\n{self.log()}"
            found = open_checkpoints(str(folder)).newest()
            assert found and found.state.step >= step, f"{name}: {kill} lost step {step}\n{self.log()}"

    def _plan(self, variant: str) -> Job:
        manifest = token_format.read_manifest(self.corpus.tokens)
        training, model = VARIANTS[variant]
        config = TrainConfig.parse(SETTINGS | training)
        sizes = ModelConfig.parse({"depth": 1} | model)
        return stage._plan("animals", self.corpus.data, self.corpus.tokens, manifest, sizes, config)

    def _job(self, name: str, variant: str) -> Path:
        folder = str(self.folder / name / "run")
        path = self.folder / name / "job.json"
        write_json(path, self._plan(variant).model_copy(update={"folder": folder, "checkpoints": folder}).to_dict())
        return path


def _result(record: TrainingRecord) -> tuple[str, int, int, dict[str, float]]:
    return record.weights_digest, record.steps, record.best_step, record.validation


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        if _alive(pid):
            os.kill(pid, number)


def main() -> None:
    """Kill as often as asked, half of it with one rank and half with two, and print where."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", default="0")
    options = parser.parse_args()
    began = time.monotonic()
    numbers = {1: options.kills // 2, 2: options.kills - options.kills // 2}
    with tempfile.TemporaryDirectory(prefix="fairlead-kills-") as folder, ThreadPoolExecutor(len(numbers)) as pool:
        matrices = [Matrix(Path(folder) / str(ranks), ranks, options.seed) for ranks in numbers]
        for ended in [pool.submit(matrix.kill, numbers[matrix.world_size]) for matrix in matrices]:
            ended.result()
        for matrix in matrices:
            matrix.close()
        total = sum((matrix.tally for matrix in matrices), Tally())
    print(total.table())
    print(
        f"\n{total.kills} kills (seed {options.seed}) in {total.runs.total()} runs of {total.attempts} attempts: every "
        f"run ended with the weights of one that was never killed. {total.missed} more came too late.",
        f"Runs: {', '.join(f'{number} {variant}' for variant, number in sorted(total.runs.items()))}.",
        f"{time.monotonic() - began:.0f} s.",
    )


if __name__ == "__main__":
    sys.exit(main())
