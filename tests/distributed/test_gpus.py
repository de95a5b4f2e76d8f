"""Training on GPUs: NCCL, in as many processes as there are GPUs, packed texts, half precision, shards.

Nothing here runs without a GPU.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from fairlead.formats.model import read_training
from fairlead.registry import open_registry
from fairlead.training.models.building import load_classifier
from tests.distributed.test_train_stage import arguments, start, train, wait_for_checkpoint
from tests.training.corpus import LABELS, Corpus

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]
# Variable-length attention needs no dropout of attention and a half precision.
MODEL = {"depth": 2, "attention_dropout": 0.0}


def curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, model: dict[str, Any] = MODEL, **changes: Any
) -> list[float]:
    monkeypatch.setenv("FAIRLEAD_HOME", str(tmp_path / name))
    values = arguments(Corpus(tmp_path / f"corpus-{name}"), tmp_path / f"model-{name}", **changes)
    train(**values | {"model": model})
    record = read_training(tmp_path / f"model-{name}")
    assert record.environment.hardware.startswith("cuda: ")
    assert list(load_classifier(tmp_path / f"model-{name}").config.id2label.values()) == LABELS
    with open_registry() as registry:
        return [point.value for point in registry.metric_history(record.run_id, "loss")]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_all_gpus_give_the_curve_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: str) -> None:
    # Dropout on a GPU belongs to a pass, and which passes there are depends on the number of processes.
    changes = {"model": {"depth": 2, "dropout": 0.0}, "max_steps": 12}
    one = curve(tmp_path, monkeypatch, "one", processes=1, **changes)
    every = curve(tmp_path, monkeypatch, "all", processes=torch.cuda.device_count(), parallel=parallel, **changes)
    assert every == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_what_single_precision_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    single = curve(tmp_path, monkeypatch, "fp32", processes=1)
    half = curve(tmp_path, monkeypatch, precision, processes=1, precision=precision)
    assert sum(half[-9:]) / 9 == pytest.approx(sum(single[-9:]) / 9, abs=0.1)


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"precision": "fp16"}, {"parallel": "fsdp"}], ids=str)
def test_killed_and_run_again_it_ends_with_the_same_weights(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    values = arguments(Corpus(tmp_path), tmp_path / "model", **changes) | {"model": MODEL}
    process = start(values)
    wait_for_checkpoint(process, home)
    process.kill()
    process.communicate()
    train(**values)
    killed = read_training(tmp_path / "model").weights_digest
    monkeypatch.setenv("FAIRLEAD_HOME", str(tmp_path / "other"))
    train(**values | {"output": str(tmp_path / "whole")})
    assert read_training(tmp_path / "whole").weights_digest == killed


def test_recomputed_layers_draw_dropout_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = curve(tmp_path, monkeypatch, "plain", processes=1, max_steps=12)
    again = curve(tmp_path, monkeypatch, "again", processes=1, max_steps=12, activation_checkpointing=True)
    assert again == pytest.approx(plain, rel=1e-4)
