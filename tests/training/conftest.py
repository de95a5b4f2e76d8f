"""Loops of one process over a small corpus."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from fairlead.formats import tokens
from fairlead.training.checkpoints.format import open_checkpoints
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching.distributed import Group
from fairlead.training.loop import Loop
from fairlead.training.models.building import build_model
from fairlead.training.objective.tasks import Splits
from tests.training.corpus import Corpus, PromptLog, Recorder


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


@pytest.fixture
def settings() -> dict[str, Any]:
    """A run of a few seconds: 27 steps, of several micro-batches each."""
    return {
        "epochs": 3,
        "batch_size": 8,
        "micro_batch_tokens": 32,
        "learning_rate": 3e-3,
        "threads": 1,
        "checkpoint_every_steps": 5,
    }


@pytest.fixture(scope="session")
def group() -> Iterator[Group]:
    """A process group of this process alone."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield Group(0, 1, torch.device("cpu"))
    dist.destroy_process_group()


@pytest.fixture
def make_loop(corpus: Corpus, settings: dict[str, Any], group: Group) -> Callable[..., Loop]:
    """Builds a loop of one process over the corpus, as a worker does; keywords are settings of training."""

    def make(
        folder: Path,
        *,
        stop_requested: Callable[[], bool] = lambda: False,
        model: ModelConfig | None = None,
        **changes: Any,
    ) -> Loop:
        config = TrainConfig.parse(settings | changes)
        splits = Splits(
            tokens.open_split(corpus.tokens, corpus.manifest, "train"),
            tokens.open_split(corpus.tokens, corpus.manifest, "validation"),
            corpus.manifest.pad_token_id,
        )
        torch.manual_seed(config.seed)
        built = build_model(model or ModelConfig(depth=1), corpus.manifest)
        log = PromptLog(Recorder(folder))
        return Loop(config, built, splits, group, open_checkpoints(str(folder)), log, stop_requested)

    return make
