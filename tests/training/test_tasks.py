"""The seam between the loop and what is learned."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fairlead.errors import ConfigError
from fairlead.formats.dataset import dataset_digest
from fairlead.training.batching.batches import MicroBatch
from fairlead.training.config import TrainConfig
from fairlead.training.loop import Loop
from tests.training.corpus import curve

MakeLoop = Callable[..., Loop]


def test_a_task_whose_losses_are_those_of_tokens_is_normalised_by_tokens(make_loop: MakeLoop, tmp_path: Path) -> None:
    def losses(logits_BC: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        return 0.0 * logits_BC[:, :1] + 1.0 * batch.attention_mask_BT

    loop = make_loop(tmp_path, max_steps=3)
    loop._passes.network.packed = None  # as for a model that reads padded texts
    lengths = loop.splits.train.lengths
    loop.losses.task = replace(loop.task, losses=losses, num_terms=lambda rows: int(lengths[rows].sum()))
    assert loop.run()
    # Every token loses 1, so that their mean is 1, however many there are.
    assert curve(tmp_path) == [1.0] * 3


def test_the_best_weights_are_finished_by_the_task(make_loop: MakeLoop, tmp_path: Path) -> None:
    def double(model: torch.nn.Module) -> None:
        with torch.no_grad():
            model.classifier.weight.mul_(2)

    loop = make_loop(tmp_path, epochs=1)
    assert loop.run()
    loop.load_best()
    plain = loop.model.classifier.weight.clone()
    loop.losses.task = replace(loop.task, finish=double)
    loop.load_best()
    assert torch.equal(loop.model.classifier.weight, 2 * plain)


def test_a_metric_of_another_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="macro_f1 is not measured for regression"):
        TrainConfig(metric="macro_f1").metric_for("regression")
    assert TrainConfig().metric_for("classification") == "macro_f1"


def test_the_same_rows_are_another_data_version_for_another_task() -> None:
    rows = {"train": (3, "sha256:00")}
    # As it was named before there were tasks.
    old = "sha256:" + hashlib.sha256(b"train\n3\nsha256:00\n").hexdigest()
    assert dataset_digest(rows) == dataset_digest(rows, "classification") == old
    assert len({dataset_digest(rows, task) for task in ("classification", "multi_label", "regression")}) == 3
