"""The loss that the settings ask for: its effect in a small training, and combinations that do nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairlead.errors import ConfigError
from fairlead.names import LANGUAGE_MODELING
from fairlead.training.config import TrainConfig
from fairlead.training.loop import Loop
from fairlead.training.objective.choice import multi_label_loss, regression_loss, single_label_loss
from fairlead.training.objective.tasks import MAKERS
from tests.training.corpus import curve

CPU, NAMES = torch.device("cpu"), ["cat", "dog", "eel"]
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
LABELS = torch.tensor([0, 1])


def loss_of(**settings: Any) -> list[float]:
    config = TrainConfig.parse(settings)
    return single_label_loss(config, NAMES, np.array([0, 0, 1, 2]), CPU)(LOGITS, LABELS).tolist()


def test_settings_reach_the_loss() -> None:
    plain, focal, sharp = loss_of(), loss_of(loss="focal"), loss_of(loss="focal", focal_gamma=5)
    assert all(a > b > c for a, b, c in zip(plain, focal, sharp, strict=True))
    # 4 rows of counts 2, 1, 1: balanced weights are 2/3, 4/3, 4/3.
    assert loss_of(class_weights="balanced") == pytest.approx([plain[0] * 2 / 3, plain[1] * 4 / 3])
    assert loss_of(class_weights="effective_number", effective_number_beta=0.0) == pytest.approx(plain)
    assert loss_of(class_weights={"cat": 1, "dog": 2, "eel": 3}) == pytest.approx([plain[0] * 4 / 7, plain[1] * 8 / 7])


def test_the_losses_of_several_labels_and_of_numbers() -> None:
    config = TrainConfig.parse({"positive_weights": {"dog": 3.0}})
    loss = multi_label_loss(config, NAMES, np.array([2, 1, 1]), 4, CPU)
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 3.0, 1.0]))
    targets = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    assert torch.allclose(loss(LOGITS, targets).mean(), expected(LOGITS, targets))
    assert regression_loss(TrainConfig.parse({}))(torch.tensor([[3.0]]), torch.tensor([1.0])).tolist() == [4.0]


def share_of_eel(make_loop: Callable[..., Loop], folder: Path, **changes: Any) -> float:
    loop = make_loop(folder, epochs=2, eval_every_steps=100, **changes)
    assert loop.run()
    predicted = []
    loop.model.eval()
    for row in range(loop.splits.validation.num_rows):
        ids = torch.tensor(loop.splits.validation.row(row).astype(np.int64))[None]
        predicted.append(int(loop.model(input_ids=ids).logits.argmax()))
    return predicted.count(2) / len(predicted)


def test_a_heavy_class_is_answered_more_often(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    weights = {"cat": 1.0, "dog": 1.0, "eel": 1000.0}
    plain, heavy = (
        share_of_eel(make_loop, tmp_path / "a"),
        share_of_eel(make_loop, tmp_path / "b", class_weights=weights),
    )
    assert plain < 0.5 < heavy


def test_a_focal_run_learns_and_reports_the_plain_loss(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    loop = make_loop(tmp_path, loss="focal", metric="mcc")
    assert loop.run()
    assert curve(tmp_path)[-1] < 0.5 * curve(tmp_path)[0]
    first, *_, last = curve(tmp_path, "validation/loss")
    assert last < first and curve(tmp_path, "validation/mcc")[-1] > 0.5
    assert loop.state.best is not None and loop.state.best.metrics["mcc"] == max(curve(tmp_path, "validation/mcc"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"focal_gamma": 1}, "training: focal_gamma = 1.0 does nothing with loss = auto; set loss to focal, or leave"),
        ({"loss": "mse", "focal_gamma": 1}, "focal_gamma = 1.0 does nothing with loss = mse"),
        ({"loss": "focal", "label_smoothing": 0.1}, "label_smoothing = 0.1 does nothing with loss = focal"),
        ({"loss": "bce", "class_weights": "balanced"}, "class_weights = balanced does nothing with loss = bce"),
        ({"keep": "last", "patience": 3}, "patience = 3 does nothing with keep = last; set keep to best"),
        ({"effective_number_beta": 0.9}, "effective_number_beta = 0.9 does nothing with class_weights = None"),
        ({"class_weights": {"cat": -1}}, "class_weights"),
    ],
)
def test_settings_that_do_nothing_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        TrainConfig.parse(settings, where="training")
    assert sentence in str(refusal.value)


def test_defaults_said_aloud_are_not_refused() -> None:
    resolved = TrainConfig.parse({}).to_dict()
    assert TrainConfig.parse(resolved) == TrainConfig.parse({})


@pytest.mark.parametrize(
    ("build", "settings", "sentence"),
    [
        ("single", {"loss": "bce"}, "training.loss: bce is not for data where a row has one label"),
        ("single", {"positive_weights": "balanced"}, "training.positive_weights: it does nothing where a row has one"),
        ("multi", {"loss": "cross_entropy"}, "is not for data where a row has several labels; set it to bce or focal"),
        ("multi", {"class_weights": "balanced"}, "training.class_weights: it does nothing"),
        (
            "language",
            {"loss": "focal"},
            "training.loss: focal is not for data where text is continued; set it to",
        ),
        ("language", {"class_weights": "balanced"}, "training.class_weights: it does nothing where text is continued"),
        (
            "regression",
            {"loss": "focal"},
            "training.loss: focal is not for data where a row has numbers; set it to",
        ),
        ("regression", {"label_smoothing": 0.1}, "training.label_smoothing: it does nothing where a row has numbers"),
    ],
)
def test_a_loss_of_another_task_is_refused(build: str, settings: dict[str, Any], sentence: str) -> None:
    config = TrainConfig.parse(settings)
    builders: dict[str, Callable[[], object]] = {
        "single": lambda: single_label_loss(config, NAMES, np.array([0, 1, 2]), CPU),
        "multi": lambda: multi_label_loss(config, NAMES, np.array([1, 1, 1]), 3, CPU),
        "regression": lambda: regression_loss(config),
        # Refused before anything else of it is looked at.
        "language": lambda: MAKERS[LANGUAGE_MODELING](config, torch.nn.Linear(1, 1), None, CPU),  # type: ignore[arg-type]
    }
    with pytest.raises(ConfigError, match=sentence):
        builders[build]()
