"""The same global batches and the same loss curve at any number of ranks, also when it changes on the way."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.formats import tokens as token_format
from fairlead.formats.atomic import write_json
from fairlead.registry import open_registry
from fairlead.training import run as stage
from fairlead.training.checkpoints.finished import read_finished
from fairlead.training.config import ModelConfig, TrainConfig
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

    def losses(self, *world_sizes: int) -> list[float]:
        """The loss of every step of a run whose attempts have these numbers of ranks; all but the last are stopped."""
        home = self.folder / "-".join(map(str, world_sizes))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FAIRLEAD_HOME", str(home))
            job = self._job(home)
            for attempt, world_size in enumerate(world_sizes):
                self._attempt(home, job, world_size, stop_after=8 if attempt < len(world_sizes) - 1 else None)
            with open_registry() as registry:
                (run,) = registry.list_runs()
                return [point.value for point in registry.metric_history(run.run_id, "loss")]

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

    def _job(self, home: Path) -> Path:
        manifest = token_format.read_manifest(self.corpus.tokens)
        job = stage._plan(
            *("animals", self.corpus.data, self.corpus.tokens, manifest, ModelConfig(depth=1)),
            *(TrainConfig.parse(SETTINGS), 1),
        )
        with open_registry() as registry:
            samples.start_run(registry, job.run_id, "animals")
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
    losses = elastic.losses(1)
    assert len(losses) == 27
    return losses


@pytest.mark.parametrize("world_sizes", [(2,), (4,), (1, 2), (2, 1)], ids=str)
def test_the_loss_of_every_step_is_the_same(
    elastic: Elastic, reference: list[float], world_sizes: tuple[int, ...]
) -> None:
    assert elastic.losses(*world_sizes) == pytest.approx(reference, rel=RELATIVE)
