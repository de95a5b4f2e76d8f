"""One side of the training benchmark, in a process of its own: `python -m benchmarks.training_sides JOB [RANK]`.

It trains the workload of JOB (a JSON file), and after each turn prints a line of JSON and waits for a line on
standard input, so that the sides take turns on the same machine in the same minutes. Only the time between
two waits counts. After the last turn it scores the validation split with code that all sides share.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from fairlead.formats import tokens as token_format
from fairlead.formats.tokens import TokenArrays, TokensManifest
from fairlead.names import LANGUAGE_MODELING
from fairlead.training.batching.batches import collate
from fairlead.training.batching.blocks import open_rows
from fairlead.training.config import TrainConfig

MATMUL_SIZE, MATMUL_SECONDS = 2048, 0.5
Score = Callable[[], dict[str, float]]


class Turns:
    """Counts examples, reports after each turn and waits to be told to go on."""

    def __init__(
        self, job: dict[str, Any], model: nn.Module, score: Score, others: Sequence[int] | None = None
    ) -> None:
        """`others` are the ids of the processes that train together with this one; given, tokens are told to `read`."""
        self.total, self.turn, self.score = job["train"], job["turn"], score
        self._processes = [psutil.Process(), *map(psutil.Process, others or ())]
        self.examples = self.useful = self.computed = self.squares = 0
        if others is None:
            linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
            linear.register_forward_hook(lambda module, inputs, _: self._count(module, inputs[0]))
        self._training = True
        self._pause({"ready": True})

    def _count(self, module: nn.Linear, x: torch.Tensor) -> None:
        """Tokens that the first matrix is multiplied with, padding included."""
        if self._training and module.training:
            self.computed += x.numel() // module.in_features

    def read(self, lengths: torch.Tensor, computed: int = 0) -> None:
        """Texts of these lengths are trained on; `computed` tokens where no hook counts them, padding included."""
        if self._training:
            self.computed += computed
            self.useful += int(lengths.sum())
            self.squares += int(lengths.square().sum())

    def add(self, examples: int) -> None:
        """A step over `examples` has ended."""
        before, self.examples = self.examples, min(self.total, self.examples + examples)
        if self._training and ends_turn(before, self.examples, self.turn, self.total):
            seconds, cpu_seconds = time.perf_counter() - self._started, self._cpu_seconds() - self._cpu_started
            # Pages that processes share, of libraries and of data, count in each of them.
            peak = sum(map(_peak_bytes, self._processes))
            self._training = self.examples < self.total
            counts = {name: getattr(self, name) for name in ("examples", "useful", "computed", "squares")}
            spent = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak}
            self._pause(spent | counts | self.score())

    def _pause(self, line: dict[str, Any]) -> None:
        print("TURN " + json.dumps(line), flush=True)
        if not sys.stdin.readline():
            os._exit(1)
        self._started, self._cpu_started = time.perf_counter(), self._cpu_seconds()

    def _cpu_seconds(self) -> float:
        times = [process.cpu_times() for process in self._processes]
        return sum(each.user + each.system for each in times)


def ends_turn(before: int, after: int, turn: int, total: int) -> bool:
    """Whether a turn ends between so many examples and so many."""
    return after // turn > before // turn or after == total


def _peak_bytes(process: psutil.Process) -> int:
    """The most memory that a process had at once."""
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def main() -> None:
    """Run the side that the job names."""
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    {"trainer": trainer, "fairlead": fairlead, "matmul": matmul}[job["kind"]](job)


def matmul(_job: dict[str, Any]) -> None:
    """The ceiling: multiplications of two square matrices, as many as go into the time, in either arithmetic."""
    matrices = {"fp32": torch.randn(MATMUL_SIZE, MATMUL_SIZE)}
    matrices["bf16"] = matrices["fp32"].bfloat16()
    print("TURN " + json.dumps({"ready": True}), flush=True)
    while sys.stdin.readline():
        print("TURN " + json.dumps({name: _rate(matrix) for name, matrix in matrices.items()}), flush=True)


def _rate(matrix: torch.Tensor) -> float:
    """Operations a second."""
    matrix @ matrix
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < MATMUL_SECONDS:
        matrix @ matrix
        count += 1
    return 2 * MATMUL_SIZE**3 * count / (time.perf_counter() - started)


def trainer(job: dict[str, Any]) -> None:
    """The Hugging Face Trainer, with `job['arguments']` over its defaults."""
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        default_data_collator,
    )

    tokens, manifest, arrays = _open(job, TrainConfig(epochs=1))
    is_language = manifest.task == LANGUAGE_MODELING
    auto = AutoModelForCausalLM if is_language else AutoModelForSequenceClassification
    model = auto.from_pretrained(job["model"], local_files_only=True)
    starts, lengths = arrays.spans(np.arange(arrays.num_rows))
    ids = [arrays.tokens[start : start + length].tolist() for start, length in zip(starts, lengths, strict=True)]
    # Blocks of text have one length; texts are padded to the longest of their batch.
    collator: Any = default_data_collator
    labels: Any = ids
    if not is_language:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tokens / token_format.TOKENIZER, local_files_only=True)
        collator, labels = DataCollatorWithPadding(tokenizer), arrays.labels.tolist()
    rows = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    turns = Turns(job, model, _scorer(job, model, open_rows(tokens, manifest, "validation", TrainConfig()), manifest))

    def read(module: nn.Module, _: Any, batch: dict[str, torch.Tensor]) -> None:
        if module.training:
            turns.read(batch.get("attention_mask", torch.ones_like(batch["input_ids"])).sum(1))

    model.register_forward_pre_hook(read, with_kwargs=True)

    class Callback(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            turns.add(args.per_device_train_batch_size)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=-(-job["train"] // job["arguments"].get("per_device_train_batch_size", 8)),
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **job["arguments"],
        )
        Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,  # type: ignore[arg-type]
            data_collator=collator,
            callbacks=[Callback()],
        ).train()


def fairlead(job: dict[str, Any]) -> None:
    """Fairlead's loop, set up as its worker sets it up; with a `world_size` its other processes are started here."""
    import torch.distributed as dist

    from fairlead.events import Progress
    from fairlead.training.checkpoints.format import open_checkpoints
    from fairlead.training.config import ModelConfig
    from fairlead.training.launching.distributed import Group
    from fairlead.training.loop import Loop, Splits
    from fairlead.training.models.building import build_model

    class InTurns(Loop):
        def _step(self, step: int, progress: Progress) -> bool:
            told_to_stop = super()._step(step, progress)
            if turns:
                lengths = torch.from_numpy(arrays.lengths[self.plan.rows(step)])
                turns.read(lengths, self.gradient.num_computed)
                turns.add(config.batch_size)
            after = step * config.batch_size
            if after < job["train"] and ends_turn(after - config.batch_size, after, job["turn"], job["train"]):
                # The others wait as well, or they would compute the next step while another side is timed.
                dist.barrier()
            return told_to_stop

    rank, world_size = int(sys.argv[2]) if len(sys.argv) > 2 else 0, job.get("world_size", 1)
    others = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.training_sides", sys.argv[1], str(other)])
        for other in range(1, world_size if rank == 0 else 1)
    ]
    settings = {"threads": job["threads"], "max_steps": -(-job["train"] // job["arguments"]["batch_size"])}
    config = TrainConfig.parse(job["arguments"] | settings)
    tokens, manifest, arrays = _open(job, config)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(config.seed)
    # The dropout that every side has: BERT's own, none in the language model.
    dropout = 0.0 if manifest.task == LANGUAGE_MODELING else 0.1
    model = build_model(ModelConfig(base=job["model"], dropout=dropout), manifest, Path(job["model"]))
    validation = open_rows(tokens, manifest, "validation", config)
    splits = Splits(arrays, validation, manifest.pad_token_id, manifest.task)
    store = dist.FileStore(sys.argv[1] + ".store", world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    turns: Turns | None = None
    with tempfile.TemporaryDirectory() as folder:
        group = Group(rank, world_size, torch.device("cpu"))
        loop = InTurns(config, model, splits, group, open_checkpoints(folder))
        if rank == 0:
            # The loop's own validation split: it may hold other ids, for an embedding with fewer rows.
            small = manifest.model_copy(update={"pad_token_id": loop.splits.pad_token_id})
            scorer = _scorer(job, model, loop.splits.validation, small)
            turns = Turns(job, model, scorer, [other.pid for other in others])
        dist.barrier()
        loop.run()
    for other in others:
        other.wait()


def _open(job: dict[str, Any], config: TrainConfig) -> tuple[Path, TokensManifest, TokenArrays]:
    tokens = Path(job["tokens"])
    manifest = token_format.read_manifest(tokens)
    return tokens, manifest, open_rows(tokens, manifest, "train", config)


def _scorer(job: dict[str, Any], model: nn.Module, arrays: TokenArrays, manifest: TokensManifest) -> Score:
    """Loss and accuracy on the validation split in fp32, dropout off; the same code for every side."""
    order = np.argsort(arrays.lengths[: job["validation"]], kind="stable")

    @torch.no_grad()
    def score() -> dict[str, float]:
        was_training = model.training
        model.eval()
        losses, hits = [], []
        for rows in np.array_split(order, max(1, len(order) // 8)):
            batch = collate(arrays, rows, manifest.pad_token_id)
            logits = model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT).logits.float()
            labels = batch.labels_B
            if manifest.task == LANGUAGE_MODELING:
                logits, labels = logits[:, :-1].flatten(0, 1), batch.input_ids_BT[:, 1:].flatten()
            losses += nn.functional.cross_entropy(logits, labels, reduction="none").tolist()
            hits += (logits.argmax(1) == labels).tolist()
        model.train(was_training)
        return {"loss": float(np.mean(losses)), "accuracy": float(np.mean(hits))}

    return score


if __name__ == "__main__":
    main()
