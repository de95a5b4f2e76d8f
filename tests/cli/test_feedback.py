"""fairlead feedback: true labels, and how often the model was right."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.registry import Feedback, open_registry
from tests.cli.conftest import Outcome
from tests.cli.test_trace import IDS, answer_of, log

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_HOME", str(tmp_path / "home"))


def keep(*given: Feedback) -> None:
    with open_registry() as registry:
        registry.record_feedback(given)


def test_the_summary_says_by_version_how_often_it_was_right(fairlead: Run, register: Callable[[int], Path]) -> None:
    register(0), register(1)
    said = {"label": "billing", "probability": 0.9}
    for number, labels in ((1, ["billing", "billing", "delivery"]), (2, ["billing"])):
        keep(*(Feedback(IDS.next(), 0, label, "support_topics", number, said) for label in labels))
    first, second = fairlead("feedback", "summary", "support_topics", "--json").json
    assert (first["version"], first["true labels"], first["right"]) == ("v1", 3, 2)
    assert first["accuracy"] == pytest.approx(2 / 3) and second["accuracy"] == 1
    (only,) = fairlead("feedback", "summary", "support_topics@champion", "--json").json
    assert only == second
    assert "0.6667" in fairlead("feedback", "summary", "support_topics").out
    assert len(fairlead("feedback", "list", "support_topics:1", "--json").json) == 3


def test_sets_are_compared_whole_and_numbers_by_distance(fairlead: Run, register: Callable[[int], Path]) -> None:
    register(0)
    keep(
        Feedback(IDS.next(), 0, ["b", "a"], "support_topics", 1, {"labels": ["a", "b"]}),
        Feedback(IDS.next(), 0, ["a"], "support_topics", 1, {"labels": ["a", "b"]}),
        Feedback(IDS.next(), 0, 3.0, "support_topics", 1, {"value": 2.5}),
    )
    (row,) = fairlead("feedback", "summary", "support_topics", "--json").json
    assert (row["right"], row["accuracy"], row["mean absolute error"]) == (1, 0.5, 0.5)


def test_a_label_that_came_before_its_record_counts_once_it_is_there(
    fairlead: Run, register: Callable[[int], Path]
) -> None:
    one = answer_of(register(0))
    keep(Feedback(one.prediction_id, 1, "delivery"))
    assert "no true label has come yet" in fairlead("feedback", "list", "support_topics").out
    log(one)
    (row,) = fairlead("feedback", "list", "support_topics", "--json").json
    assert (row["index"], row["true label"], row["predicted"]) == (1, "delivery", one.answers[1]["label"])


def test_a_project_that_is_not_there_is_named(fairlead: Run) -> None:
    assert fairlead("feedback", "summary", "nobody:3").code == 2
