"""The contract of feedback, on SQLite and on PostgreSQL."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairlead.predictions.ids import IdSource
from fairlead.registry import Feedback, Registry, open_registry

IDS = IdSource()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    postgres = request.param == "postgres"
    url = str(request.getfixturevalue("postgres_url")) if postgres else f"sqlite:///{tmp_path / 'registry.db'}"
    with open_registry(url) as registry:
        yield registry


def given(label: str | float | list[str] = "billing", id: str | None = None, **fields: object) -> Feedback:
    matched = {"project": "topics", "number": 3, "answer": {"label": "delivery", "probability": 0.5}}
    return Feedback(id or IDS.next(), 0, label, **{**matched, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("label", ["billing", "", "日本\n語", ["bug", "ui"], [], 3.5, -1])
def test_a_true_label_of_any_task_is_kept(registry: Registry, label: str | float | list[str]) -> None:
    one = given(label)
    assert registry.record_feedback([one]) == ["stored"]
    (kept,) = registry.get_feedback(one.prediction_id)
    assert {name: getattr(kept, name) for name in vars(one)} == vars(one)
    assert kept.first_received == kept.received and kept.revisions == 0


def test_the_last_label_counts_and_the_same_again_changes_nothing(registry: Registry) -> None:
    one = given("billing")
    other = dataclasses.replace(one, label="delivery")
    assert registry.record_feedback([one, one]) == ["stored", "unchanged"]
    assert registry.record_feedback([other]) == ["replaced"]
    assert registry.record_feedback([other]) == ["unchanged"]
    (kept,) = registry.get_feedback(one.prediction_id)
    assert (kept.label, kept.revisions) == ("delivery", 1)
    assert kept.received > kept.first_received


def test_texts_of_one_request_have_labels_of_their_own(registry: Registry) -> None:
    one = given("billing")
    registry.record_feedback([dataclasses.replace(one, index=2, label="ui"), one])
    assert [(kept.index, kept.label) for kept in registry.get_feedback(one.prediction_id)] == [
        (0, "billing"),
        (2, "ui"),
    ]


def test_what_came_before_its_prediction_was_found_is_matched_later(registry: Registry) -> None:
    one = given()
    early = Feedback(one.prediction_id, 0, "billing")
    assert registry.record_feedback([early]) == ["stored"]
    assert [kept.prediction_id for kept in registry.list_feedback(None)] == [one.prediction_id]
    assert registry.list_feedback("topics") == []
    assert registry.record_feedback([one]) == ["unchanged"]
    assert registry.list_feedback(None) == []
    (kept,) = registry.list_feedback("topics", 3)
    assert (kept.answer, kept.revisions) == (one.answer, 0)
    assert registry.record_feedback([early]) == ["unchanged"]
    assert registry.list_feedback("topics", 3) == [kept], "a match is not forgotten"


def test_feedback_is_listed_by_version_and_by_project(registry: Registry) -> None:
    ones = [given(number=number) for number in (3, 3, 4)] + [given(project="other")]
    registry.record_feedback(ones)
    # Ids of one millisecond are in any order.
    assert {kept.prediction_id for kept in registry.list_feedback("topics", 3)} == {o.prediction_id for o in ones[:2]}
    assert len(registry.list_feedback("topics")) == 3
    assert registry.list_feedback("nobody") == []
    assert registry.get_feedback(IDS.next()) == []


def test_many_at_once_store_each_label_once(registry: Registry) -> None:
    id = IDS.next()
    labels = [f"label-{number % 2}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda label: registry.record_feedback([given(label, id)])[0], labels))
    counts = Counter(said)
    (kept,) = registry.get_feedback(id)
    assert counts["stored"] == 1 and counts["replaced"] == kept.revisions
    assert kept.label in labels
