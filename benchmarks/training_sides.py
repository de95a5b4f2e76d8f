"""One side of the training benchmark, in a process of its own: `python -m benchmarks.training_sides JOB`.

It trains the workload of JOB (a JSON file), and after each turn prints a line of JSON and waits for a line on
standard input, so that the sides take turns on the same machine in the same minutes. Only the time between
two waits counts. After the last turn it scores the validation split with code that all sides share.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fairlead.formats import tokens as token_format
from fairlead.formats.tokens import TokenArrays, TokensManifest

MATMUL_SIZE, MATMUL_SECONDS = 2048, 1.0


class Turns:
    """Counts examples, reports after each turn and waits to be told to go on."""

    def __init__(self, job: dict[str, Any], model: nn.Module, score: Callable[[], dict[str, float]]) -> None:
        self.total, self.turn, self.score = job["train"], job["turn"], score
        self.examples = self.useful = self.computed = self.squares = 0
        linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
        linear.register_forward_hook(lambda module, inputs, _: self._count(module, inputs[0]))
        self._training = True
        self._pause({"ready": True})

    def _count(self, module: nn.Linear, x: torch.Tensor) -> None:
        """Tokens that the first matrix is multiplied with, padding included."""
        if self._training and module.training:
            self.computed += x.numel() // module.in_features

    def read(self, lengths: torch.Tensor) -> None:
        """Texts of these lengths are trained on."""
        if self._training:
            self.useful += int(lengths.sum())
            self.squares += int(lengths.square().sum())

    def add(self, examples: int) -> None:
        """A step over `examples` has ended."""
        before, self.examples = self.examples, min(self.total, self.examples + examples)
        if self._training and (self.examples // self.turn > before // self.turn or self.examples == self.total):
            seconds = time.perf_counter() - self._started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            self._training = self.examples < self.total
            counts = {name: getattr(self, name) for name in ("examples", "useful", "computed", "squares")}
            self._pause({"seconds": seconds, "peak_bytes": peak} | counts | self.score())

    def _pause(self, line: dict[str, Any]) -> None:
        print("TURN " + json.dumps(line), flush=True)
        if not sys.stdin.readline():
            os._exit(1)
        self._started = time.perf_counter()


def main() -> None:
    """Run the side that the job names."""
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    {"trainer": trainer, "fairlead": fairlead, "matmul": matmul}[job["kind"]](job)


def matmul(job: dict[str, Any]) -> None:
    """The ceiling: multiplications of two square matrices, as many as go into the time."""
    matrix = torch.randn(MATMUL_SIZE, MATMUL_SIZE).to(getattr(torch, job["dtype"]))
    matrix @ matrix
    print("TURN " + json.dumps({"ready": True}), flush=True)
    while sys.stdin.readline():
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < MATMUL_SECONDS:
            matrix @ matrix
            count += 1
        rate = 2 * MATMUL_SIZE**3 * count / (time.perf_counter() - started)
        print("TURN " + json.dumps({"flops": rate}), flush=True)


def trainer(job: dict[str, Any]) -> None:
    """The Hugging Face Trainer, with `job['arguments']` over its defaults."""
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    tokens, manifest, arrays = _open(job)
    model = AutoModelForSequenceClassification.from_pretrained(job["model"], local_files_only=True)
    rows = [{"input_ids": arrays.row(i).tolist(), "labels": int(arrays.labels[i])} for i in range(arrays.num_rows)]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokens / token_format.TOKENIZER, local_files_only=True)
    validation = token_format.open_split(tokens, manifest, "validation")
    turns = Turns(job, model, _scorer(model, validation, manifest.pad_token_id))

    def read(module: nn.Module, _: Any, batch: dict[str, torch.Tensor]) -> None:
        if module.training:
            turns.read(batch["attention_mask"].sum(1))

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
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[Callback()],
        ).train()


def fairlead(job: dict[str, Any]) -> None:
    """Fairlead's loop, set up as its worker sets it up, in one process."""
    import torch.distributed as dist

    from fairlead.events import Progress
    from fairlead.training.checkpoints.format import open_checkpoints
    from fairlead.training.config import ModelConfig, TrainConfig
    from fairlead.training.launching.distributed import Group
    from fairlead.training.loop import Loop, Splits
    from fairlead.training.models.building import build_model

    class InTurns(Loop):
        def _step(self, step: int, progress: Progress) -> bool:
            told_to_stop = super()._step(step, progress)
            turns.read(torch.from_numpy(arrays.lengths[self.plan.rows(step)]))
            turns.add(config.batch_size)
            return told_to_stop

    tokens, manifest, arrays = _open(job)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    settings = {"threads": job["threads"], "max_steps": -(-job["train"] // job["arguments"]["batch_size"])}
    config = TrainConfig.parse(job["arguments"] | settings)
    torch.manual_seed(config.seed)
    model = build_model(ModelConfig(base=job["model"]), manifest, Path(job["model"]))
    splits = Splits(arrays, token_format.open_split(tokens, manifest, "validation"), manifest.pad_token_id)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    with tempfile.TemporaryDirectory() as folder:
        loop = InTurns(config, model, splits, Group(0, 1, torch.device("cpu")), open_checkpoints(folder))
        # The loop's own validation split: it may hold other ids, for an embedding with fewer rows.
        turns = Turns(job, model, _scorer(model, loop.splits.validation, loop.splits.pad_token_id))
        loop.run()


def _open(job: dict[str, Any]) -> tuple[Path, TokensManifest, TokenArrays]:
    tokens = Path(job["tokens"])
    manifest = token_format.read_manifest(tokens)
    return tokens, manifest, token_format.open_split(tokens, manifest, "train")


def _scorer(model: nn.Module, arrays: TokenArrays, pad_token_id: int) -> Callable[[], dict[str, float]]:
    """Loss and accuracy on the validation split in fp32, dropout off; the same code for every side."""
    order = np.argsort(arrays.lengths)

    @torch.no_grad()
    def score() -> dict[str, float]:
        was_training = model.training
        model.eval()
        losses, hits = [], 0
        for rows in np.array_split(order, max(1, len(order) // 8)):
            length = int(arrays.lengths[rows].max())
            ids = torch.full((len(rows), length), pad_token_id)
            for i, row in enumerate(rows):
                ids[i, : arrays.lengths[row]] = torch.from_numpy(arrays.row(int(row)).astype(np.int64))
            labels = torch.from_numpy(arrays.labels[rows].astype(np.int64))
            logits = model(input_ids=ids, attention_mask=(ids != pad_token_id).long()).logits.float()
            losses += nn.functional.cross_entropy(logits, labels, reduction="none").tolist()
            hits += int((logits.argmax(1) == labels).sum())
        model.train(was_training)
        return {"loss": float(np.mean(losses)), "accuracy": hits / len(order)}

    return score


if __name__ == "__main__":
    main()
