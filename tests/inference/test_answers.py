"""From what a model gives to what is said of a text."""

from types import SimpleNamespace
from typing import Any

from fairlead.inference.answers import answers_of


def manifest(task: str, labels: list[str], thresholds: list[float] | None = None) -> Any:
    return SimpleNamespace(labels=labels, training=SimpleNamespace(task=task, thresholds=thresholds or []))


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
