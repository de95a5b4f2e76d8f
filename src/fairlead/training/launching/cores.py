"""How a run shares out the cores of a CPU: how many processes train, and with how many threads each.

Threads of one process wait for each other after every product, processes once a step. On two cores of a Xeon two
threads trained a MiniLM 1.1 times as fast as one, and two processes 1.7 times (docs/benchmarks.md). But a process costs
seconds to start, and memory for weights and an optimizer's state of its own. So the seconds of the run are estimated
for each number, from its work and from what the cores were measured to do at the same time, and of those that fit into
memory the fewest processes within a tenth of the best are taken. A short run stays in one process.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from fairlead import machine
from fairlead.formats.dataset import TRAIN
from fairlead.formats.model import Environment
from fairlead.formats.tokens import TokensManifest
from fairlead.names import LANGUAGE_MODELING
from fairlead.training.batching.batches import make_plan
from fairlead.training.batching.blocks import open_rows
from fairlead.training.batching.passes import NUM_SHARES, num_padded_groups
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching import calibration
from fairlead.training.launching.calibration import LEAST_GAIN, Cores, doublings
from fairlead.training.launching.job import Job
from fairlead.training.models.packed_models import BERT_LIKE, MODERNBERT
from fairlead.training.models.size import ModelSize, model_size

# Ten seconds of a core that multiplies at 100 GFLOP/s: what more processes could save is not worth measuring.
LEAST_OPERATIONS = 1e12
# Until the processes of a run compute together, against one alone.
START_SECONDS = 4.0
# Of a step of several processes: meeting, and the sum of the gradients, of which a part goes on beside computing. Two
# processes that trained a MiniLM of 91 MB took 0.09 s a step more than half of what one took.
MEETING_SECONDS, EXCHANGED_BYTES_PER_SECOND = 0.003, 1e9
# What more threads make faster of a step: its large products. On two cores that multiplied matrices twice as fast as
# one, two threads trained a MiniLM 1.11 to 1.22 times as fast as one.
THREADED_SHARE = 0.35
# Of a process before it has a model: the interpreter, torch and transformers.
PROCESS_BYTES = 500_000_000
# What attention, normalisations and masks keep for the backward pass beside what the matrices read and write.
ACTIVATIONS_FACTOR = 1.5
# The optimizer's numbers for each weight.
STATE = {"adamw": 2, "adam": 2, "muon": 2, "rmsprop": 2, "sgd": 1, "adagrad": 1}
# Of the free memory; the rest is for what an estimate does not know.
SHARE_OF_MEMORY = 0.8
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Work:
    """What a run computes."""

    size: ModelSize
    tokens: int
    """In all its steps."""
    steps: int
    shares: int = NUM_SHARES
    """Equal parts that a step is cut into at least: more processes would find no work."""

    @property
    def operations(self) -> float:
        """Forward and backward: 6 a token and weight that it is multiplied with (Kaplan et al. 2020, section 2.1)."""
        return 6.0 * self.size.multiplied * self.tokens

    def seconds(self, cores: Cores, speed: float) -> float:
        """Of the run in so many processes, which together do `speed` operations a second in matrix products."""
        computing = self.operations / (speed * _of_products(cores.threads))
        if cores.processes == 1:
            return computing
        exchanged = self.size.weights * FLOAT_BYTES / EXCHANGED_BYTES_PER_SECOND
        return computing + START_SECONDS + self.steps * (MEETING_SECONDS + exchanged)

    def memory(self, config: TrainConfig, processes: int) -> float:
        """Bytes of so many processes together, about."""
        state = STATE[config.optimizer] + (config.ema_decay is not None)
        copy = 0.5 if config.precision == "bf16" else 0.0
        # Weights, gradients, the optimizer's state; the first process copies its state for a checkpoint.
        numbers = self.size.weights * (processes * (2 + state + copy) + 1 + state)
        own = min(config.micro_batch_tokens, self.tokens / self.steps / processes)
        numbers += ACTIVATIONS_FACTOR * self.size.activations * own * processes
        return processes * PROCESS_BYTES + FLOAT_BYTES * numbers


def _of_products(threads: int) -> float:
    """How much of what so many threads gain in products they gain in a step (Amdahl 1967)."""
    return 1 / (1 - THREADED_SHARE + THREADED_SHARE / threads) / threads


def work_of(job: Job, manifest: TokensManifest) -> Work:
    """The work of a whole run."""
    base = Path(job.base) if job.base else None
    train = open_rows(Path(job.tokens), manifest, TRAIN, job.training)
    plan = make_plan(job.training, train)
    return make_work(job.model, base, manifest, plan.num_tokens(train.lengths, plan.num_steps), plan.num_steps)


def make_work(model: ModelConfig, base: Path | None, manifest: TokensManifest, tokens: int, steps: int) -> Work:
    """The work of training on so many tokens in so many steps."""
    size = model_size(model, base, manifest.task, manifest.vocab_size)
    return Work(size, tokens, steps, NUM_SHARES if _packs(base, manifest) else num_padded_groups(tokens // steps))


def _packs(base: Path | None, manifest: TokensManifest) -> bool:
    """Whether the model reads packed texts; others are cut into fewer parts."""
    if manifest.task == LANGUAGE_MODELING or base is None:
        return manifest.task != LANGUAGE_MODELING
    with suppress(OSError, ValueError, AttributeError):
        return json.loads((base / "config.json").read_text("utf-8")).get("model_type") in (*BERT_LIKE, MODERNBERT)
    return False


def decide(config: TrainConfig, before: Environment | None, work: Callable[[], Work]) -> Cores:
    """The processes and threads of a run on this machine's CPU: as set, else those of its last attempt, or the fastest.

    `before` is the environment of that attempt: its sums go on bit for bit at the same numbers.
    """
    kept = _kept(config, before) if before else None
    if kept:
        return kept
    if config.processes is None:
        return choose(config, work())
    most = max(1, machine.physical_cores() // config.processes)
    return Cores(config.processes, config.threads or calibration.fastest_threads(most, _dtype(config)))


def choose(config: TrainConfig, work: Work) -> Cores:
    """The fastest processes, and threads unless they are set, for a run on this machine's CPU."""
    dtype = _dtype(config)
    cores = machine.physical_cores()
    most = _most_processes(config, work, cores // (config.threads or 1))
    if most == 1 or work.operations < LEAST_OPERATIONS:
        return Cores(1, config.threads or calibration.fastest_threads(cores, dtype))
    speeds = calibration.measured(list(_candidates(doublings(most), config.threads, cores)), dtype)
    fastest = {n: calibration.fewest({c: s for c, s in speeds.items() if c.processes == n}) for n in doublings(most)}
    seconds = {one: work.seconds(one, speeds[one]) for one in fastest.values()}
    chosen = next(one for one, took in seconds.items() if took <= LEAST_GAIN * min(seconds.values()))
    told = ", ".join(f"{one.processes} of {one.threads}: {took:.0f} s" for one, took in seconds.items())
    print(f"train: {chosen.processes} processes of {chosen.threads} threads, as estimated ({told})", flush=True)
    return chosen


def _kept(config: TrainConfig, before: Environment) -> Cores | None:
    """What the last attempt had, where it was on a CPU and there are as many cores here."""
    kept = Cores(config.processes or before.world_size, config.threads or before.num_threads)
    cores = machine.physical_cores()
    too_many = config.processes is None and kept.processes > cores
    too_wide = config.threads is None and kept.threads > max(1, cores // kept.processes)
    return kept if before.hardware.startswith("cpu") and not too_many and not too_wide else None


def _most_processes(config: TrainConfig, work: Work, cores: int) -> int:
    """As many as there are cores, equal shares of a batch, and room in memory for."""
    if config.parallel == "fsdp":
        return 1
    most = min(cores, work.shares, config.batch_size)
    room = SHARE_OF_MEMORY * machine.free_memory()
    while most > 1 and work.memory(config, most) > room:
        most -= 1
    return max(1, most)


def _candidates(processes: Iterable[int], threads: int | None, cores: int) -> Iterable[Cores]:
    for number in processes:
        for of_each in [threads] if threads else doublings(cores // number):
            yield Cores(number, of_each)


def _dtype(config: TrainConfig) -> torch.dtype:
    return torch.bfloat16 if config.precision == "bf16" else torch.float32
