"""A served tiny version whose model can be held, so that a test decides when a batch ends."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fairlead.inference.capacity import Capacity
from fairlead.inference.config import ServingConfig
from fairlead.inference.engine import Engine
from fairlead.inference.observing import Batch
from fairlead.inference.served import Served
from fairlead.inference.workers import Workers
from fairlead.variants.contract import Embeddings, Logits, Runner
from tests.tiny import MAX_LENGTH

# A millisecond a text of 16 tokens, so that bounds are round numbers.
CAPACITY = Capacity(
    device="cpu",
    threads=1,
    batch_tokens=64,
    wait_seconds=0.0,
    longest=MAX_LENGTH,
    call_seconds=1e-3,
    token_seconds=1e-3 / 16,
)


class HeldRunner:
    """The version's runner, which waits before each batch while it is held, and fails on texts with some token."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.device = runner.device
        self.embedding_size = runner.embedding_size
        self.batches: list[list[Sequence[int]]] = []
        self.started: list[float] = []
        self.poison: int | None = None
        self.free = threading.Event()
        self.free.set()

    def embed(self, token_ids: Sequence[Sequence[int]]) -> tuple[Logits, Embeddings]:
        self._hold(token_ids)
        return self.runner.embed(token_ids)

    def run(self, token_ids: Sequence[Sequence[int]]) -> Logits:
        self._hold(token_ids)
        return self.runner.run(token_ids)

    def _hold(self, token_ids: Sequence[Sequence[int]]) -> None:
        self.started.append(time.perf_counter())
        self.batches.append(list(token_ids))
        assert self.free.wait(60)
        if any(self.poison in row for row in token_ids):
            raise ValueError("this text is poison")

    def set_threads(self, threads: int, calls: int = 1) -> None:
        self.runner.set_threads(threads, calls)


class Seen:
    """What an observer was told."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.refusals: list[str] = []

    def on_batch(self, batch: Batch) -> None:
        self.batches.append(batch)

    def on_refused(self, model: str, version: str, variant: str, reason: str) -> None:
        self.refusals.append(reason)


def held(
    folder: Path, config: ServingConfig | None = None, workers: Workers | None = None, observer: Seen | None = None
) -> tuple[Served, HeldRunner]:
    """The version in `folder`, served with CAPACITY, and its runner."""
    engine = Engine.load(folder)
    runner = HeldRunner(engine.runner)
    engine.runner = runner
    served = Served("topics", engine, config, workers, CAPACITY, observer)
    # Those of the warm-up.
    runner.batches.clear()
    runner.started.clear()
    return served, runner


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, a minute at most."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def rows(batches: list[list[Sequence[int]]]) -> list[list[int]]:
    """Texts of each batch, by their first word's id."""
    return [[int(np.asarray(row)[1]) for row in batch] for batch in batches]
