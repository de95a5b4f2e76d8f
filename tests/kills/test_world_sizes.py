"""The same global batches and the same loss curve at any number of ranks, also when it changes on the way.

`2 fsdp` are two ranks that share the weights; a run may change from the one to the other as well.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fairlead.formats import tokens as token_format
from fairlead.formats.atomic import write_json
from fairlead.formats.model import WEIGHTS
from fairlead.registry import open_registry
from fairlead.training import run as stage
from fairlead.training.checkpoints.finished import read_finished
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching.job import Job
from tests.kills.nursery import Nursery
from tests.kills.phases import Board
from tests.registry import samples
from tests.training.corpus import Corpus

SETTINGS = {"epochs": 3, "batch_size": 8, "micro_batch_tokens": 32, "threads": 1, "checkpoint_every_steps": 5}
# float32 carries 6e-8; sums in another order differ by some of these.
RELATIVE = 1e-5


class Elastic:
    """Runs of one corpus, each with a home and a registry of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.corpus, self.nursery = Corpus(folder), Nursery(folder / "log")

    def losses(self, *attempts: str) -> list[float]:
        """The loss of every step of a run whose attempts have these ranks; all but the last are stopped."""
        home = self.home(*attempts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FAIRLEAD_HOME", str(home))
            self._start(home)
            for attempt, ranks in enumerate(attempts):
                world_size, _, parallel = ranks.partition(" ")
                job = self._job(home, parallel or "ddp")
                self._attempt(home, job, int(world_size), stop_after=8 if attempt < len(attempts) - 1 else None)
            with open_registry() as registry:
                (run,) = registry.list_runs()
                return [point.value for point in registry.metric_history(run.run_id, "loss")]

    def home(self, *attempts: str) -> Path:
        return self.folder / "-".join(attempts).replace(" ", "_")

    def _attempt(self, home: Path, job: Path, world_size: int, stop_after: int | None) -> None:
        path = home / f"board-{world_size}"
        board = Board(path, world_size)
        launcher, _ = self.nursery.launch(job, world_size, path, {"FAIRLEAD_HOME": str(home)})
        while stop_after and board.step(0) < stop_after:
            time.sleep(0.001)
        if stop_after:
            os.kill(launcher, signal.SIGTERM)
        assert self.nursery.wait() == 0
        assert bool(read_finished(home / "run")) == (stop_after is None)

    def _start(self, home: Path) -> None:
        with open_registry() as registry:
            samples.start_run(registry, self._plan("ddp").run_id, "animals")

    def _plan(self, parallel: str) -> Job:
        manifest = token_format.read_manifest(self.corpus.tokens)
        return stage._plan(
            *("animals", self.corpus.data, self.corpus.tokens, manifest, ModelConfig(depth=1)),
            TrainConfig.parse(SETTINGS | {"parallel": parallel}),
        )

    def _job(self, home: Path, parallel: str) -> Path:
        job = self._plan(parallel)
        path = home / "job.json"
        folder = str(home / "run")
        write_json(path, job.model_copy(update={"folder": folder, "checkpoints": folder}).to_dict())
        return path


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    elastic = Elastic(tmp_path_factory.mktemp("elastic"))
    yield elastic
    elastic.nursery.close()


@pytest.fixture(scope="module")
def reference(elastic: Elastic) -> list[float]:
    losses = elastic.losses("1")
    assert len(losses) == 27
    return losses


@pytest.mark.parametrize(
    "attempts", [("2",), ("4",), ("1", "2"), ("2", "1"), ("2 fsdp",), ("2 fsdp", "1 fsdp"), ("2", "2 fsdp")], ids=str
)
def test_the_loss_of_every_step_is_the_same(
    elastic: Elastic, reference: list[float], attempts: tuple[str, ...]
) -> None:
    assert elastic.losses(*attempts) == pytest.approx(reference, rel=RELATIVE)
    # Whatever it was trained with, the model is a whole one, of one file.
    found, expected = (
        load_file(home / "run" / "finished" / WEIGHTS) for home in (elastic.home(*attempts), elastic.home("1"))
    )
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-4) for name in expected)
