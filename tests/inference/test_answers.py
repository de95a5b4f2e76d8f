"""From what a model gives to what is said of a text."""

from types import SimpleNamespace
from typing import Any

from fairlead.formats.variants import OptimizationRecord
from fairlead.inference.answers import answers_of


def manifest(
    task: str, labels: list[str], thresholds: list[float] | None = None, optimization: OptimizationRecord | None = None
) -> Any:
    training = SimpleNamespace(task=task, thresholds=thresholds or [])
    return SimpleNamespace(labels=labels, training=training, optimization=optimization)


def test_a_set_has_the_labels_that_reach_their_own_thresholds() -> None:
    answer = answers_of(manifest("multi_label", ["a", "b", "c"], [0.2, 0.9, 0.5]))
    assert answer([0.3, 0.8, 0.5]).to_dict() == {"labels": ["a", "c"], "label_probabilities": [0.3, 0.5]}
    assert answer([0.1, 0.1, 0.1]).to_dict() == {"labels": [], "label_probabilities": []}


def test_a_number_is_given_as_it_is_and_one_label_is_the_most_probable() -> None:
    assert answers_of(manifest("regression", []))([3.5]).to_dict() == {"value": 3.5}
    assert answers_of(manifest("classification", ["a", "b"]))([0.4, 0.6]).to_dict() == {
        "label": "b",
        "probability": 0.6,
    }


def test_a_text_below_the_threshold_is_rejected_and_still_has_its_label() -> None:
    record = OptimizationRecord(rejection_threshold=0.5)
    answer = answers_of(manifest("classification", ["a", "b"], optimization=record))
    assert answer([0.4, 0.6]).to_dict() == {"label": "b", "probability": 0.6, "rejected": False}
    assert answer([0.51, 0.49]).to_dict()["rejected"] is False
    assert answers_of(manifest("classification", ["a", "b", "c"], optimization=record))([0.4, 0.3, 0.3]).to_dict() == {
        "label": "a",
        "probability": 0.4,
        "rejected": True,
    }
