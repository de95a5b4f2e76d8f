"""With every setting on that could see how a batch is shared out, two processes give the curve of one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fairlead.formats.model import read_training
from fairlead.registry import open_registry
from fairlead.training.models.building import load_classifier
from tests.distributed.test_train_stage import arguments, train
from tests.training.corpus import Corpus

SETTINGS: dict[str, Any] = {
    "max_steps": 12,
    "eval_every_steps": 4,
    "class_weights": {"cat": 1, "dog": 5, "eel": 2},
    "label_smoothing": 0.1,
    "ema_decay": 0.9,
    "layer_rate_decay": 0.8,
    "head_rate_factor": 3,
    "gradient_clip_value": 0.05,
    "metric": "mcc",
}


def curves(corpus: Corpus, output: Path, processes: int) -> dict[str, list[float]]:
    values = arguments(corpus, output, **SETTINGS, processes=processes)
    train(**values | {"model": {"depth": 1, "classifier_norm": "batch"}})
    run_id = read_training(output).run_id
    with open_registry() as registry:
        names = ("loss", "gradient_norm", "validation/loss", "validation/mcc")
        return {name: [p.value for p in registry.metric_history(run_id, name)] for name in names}


def test_two_processes_give_the_curves_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for processes in (1, 2):
        monkeypatch.setenv("FAIRLEAD_HOME", str(tmp_path / f"home-{processes}"))
        found.append(curves(Corpus(tmp_path / f"corpus-{processes}"), tmp_path / f"model-{processes}", processes))
    alone, together = found
    assert len(alone["loss"]) == 12 and len(alone["validation/mcc"]) == 3
    assert all(together[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-4) for name in alone)
    # The normalisation and the average are in the weights: any loader gives the answers that were validated.
    tensors = load_file(tmp_path / "model-2" / "model.safetensors")
    assert not [name for name in tensors if "norm." in name and name.startswith("classifier")]
    ids = torch.tensor([[2, 7, 9, 3]])
    logits = [load_classifier(tmp_path / f"model-{n}")(input_ids=ids).logits for n in (1, 2)]
    assert torch.allclose(*logits, atol=1e-2)
