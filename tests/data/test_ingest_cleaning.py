"""Duplicates, conflicts, leaks and the split: counted, and handled by the stated policies."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.data.keys import normal_form
from fairlead.data.splitting import Ranks, shares, split
from fairlead.errors import DataError
from fairlead.formats.dataset import DataManifest, read_rows
from tests.data.ingesting import rows, run

Rows = list[tuple[str, str]]


def write(path: Path, content: Rows) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *content])
    return str(path)


def filler(start: int = 0, end: int = 40) -> Rows:
    return [(f"filler number {i}", "ab"[i % 2]) for i in range(start, end)]


def ingest(folder: Path, content: Rows, **values: Any) -> tuple[DataManifest, Rows]:
    """The manifest, and the kept rows that are no filler."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = run(folder / "out", source=write(folder / "in.csv", content + filler()), **values)
    return manifest, [row for row in rows(folder / "out") if not row[0].startswith("filler")]


def dropped(manifest: DataManifest) -> dict[str, int]:
    return {name: policy["dropped"] for name, policy in manifest.findings["policies"].items()}


@pytest.mark.parametrize(
    ("text", "normal"),
    [("  Two \t words\n", "two words"), ("ﬁne ＡＢＣ", "fine abc"), ("STRASSE", "strasse"), ("straße", "strasse")],
)
def test_normal_form(text: str, normal: str) -> None:
    assert normal_form(text) == normal == normal_form(normal)


SAME = [("Same text", "a"), ("Same text", "a"), ("same  TEXT", "a"), ("other", "b")]


def test_duplicates_are_dropped_but_for_the_first(tmp_path: Path) -> None:
    manifest, kept = ingest(tmp_path, SAME)
    assert kept == [("Same text", "a"), ("other", "b")]
    assert (manifest.findings["duplicates_exact"], manifest.findings["duplicates_normalised"]) == (1, 1)
    assert dropped(manifest) == {"leakage": 0, "conflicts": 0, "duplicates": 2}


def test_duplicates_that_are_kept_stand_in_one_split(tmp_path: Path) -> None:
    content = [(f"text {i}", "ab"[i % 2]) for i in range(30)] * 3
    manifest, kept = ingest(tmp_path, content, duplicates="keep", test_fraction=0.3)
    assert sorted(kept) == sorted(content)
    assert manifest.findings["duplicates_exact"] == 60 and not any(dropped(manifest).values())
    splits = [{text for text, _ in read_rows(tmp_path / "out", name)} for name in manifest.splits]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]


CONFLICT = [("text", "a"), ("Text", "b"), ("text", "a"), ("tie", "a"), ("tie", "b"), ("other", "b")]


@pytest.mark.parametrize(
    ("policy", "kept", "counts"),
    [
        ("drop", [("other", "b")], {"conflicts": 5, "duplicates": 0}),
        ("majority", [("other", "b"), ("text", "a")], {"conflicts": 3, "duplicates": 1}),
        ("keep", sorted({*CONFLICT}), {"conflicts": 0, "duplicates": 1}),
    ],
)
def test_conflicts(tmp_path: Path, policy: str, kept: Rows, counts: dict[str, int]) -> None:
    manifest, found = ingest(tmp_path, CONFLICT, conflicts=policy)
    assert found == kept
    assert manifest.findings["conflicts"] == 5
    assert dropped(manifest) == {"leakage": 0, **counts}


@pytest.mark.parametrize(("policy", "expected"), [("drop", 39), ("majority", 39), ("keep", 41)])
def test_a_last_class_without_a_text_of_its_own_is_no_obstacle(tmp_path: Path, policy: str, expected: int) -> None:
    content = [*filler(), (filler()[0][0], "last class")]
    manifest = run(tmp_path / "out", source=write(tmp_path / "in.csv", content), conflicts=policy)
    assert sum(split.num_rows for split in manifest.splits.values()) == expected


def test_conflicting_rows_that_are_kept_stand_in_one_split(tmp_path: Path) -> None:
    content = [(f"text {i}", label) for i in range(60) for label in "ab"]
    manifest, _ = ingest(tmp_path, content, conflicts="keep")
    splits = [{text for text, _ in read_rows(tmp_path / "out", name)} for name in manifest.splits]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]


def sources(tmp_path: Path) -> dict[str, Any]:
    tests = [("In test", "a"), ("in test", "a"), ("twice", "a"), ("twice", "b")]
    return {
        "test": write(tmp_path / "test.csv", [*tests, *filler(40, 44)]),
        "validation": write(tmp_path / "validation.csv", [("in test ", "a"), ("in both", "b"), *filler(44, 48)]),
        "extra": {"hard": write(tmp_path / "hard.csv", [("in hard", "z"), ("in both", "b")])},
    }


LEAKS = [("in TEST", "b"), ("in hard", "a"), ("in both", "b"), ("twice", "a"), ("only here", "a")]


def test_what_is_measured_on_is_not_trained_on(tmp_path: Path) -> None:
    manifest, _ = ingest(tmp_path, LEAKS, **sources(tmp_path))
    train = set(read_rows(tmp_path / "out", "train"))
    assert train == {("only here", "a"), *filler()}
    assert set(read_rows(tmp_path / "out", "validation")) == set(filler(44, 48))
    found = manifest.findings["by_source"]
    assert {name: source["leaked"] for name, source in found.items()} == {
        "train": 4,
        "validation": 2,
        "test": 0,
        "hard": 0,
    }
    assert dropped(manifest) == {"leakage": 6, "conflicts": 0, "duplicates": 0}


def test_own_test_and_extra_sources_are_kept_as_they_are(tmp_path: Path) -> None:
    manifest, _ = ingest(tmp_path, LEAKS, **sources(tmp_path))
    test = [("In test", "a"), ("in test", "a"), ("twice", "a"), ("twice", "b"), *filler(40, 44)]
    assert list(read_rows(tmp_path / "out", "test")) == test
    assert list(read_rows(tmp_path / "out", "hard")) == [("in hard", "z"), ("in both", "b")]
    assert manifest.labels == ["a", "b"]
    assert manifest.findings["by_source"]["test"]["conflicts"] == 2
    assert manifest.findings["by_source"]["test"]["duplicates_normalised"] == 1


def test_leaks_that_are_kept_are_counted(tmp_path: Path) -> None:
    manifest, _ = ingest(tmp_path, LEAKS, leakage="keep", **sources(tmp_path))
    assert manifest.findings["leaked"] == 6 and dropped(manifest)["leakage"] == 0
    assert set(LEAKS) <= set(read_rows(tmp_path / "out", "train"))


WORDS = st.tuples(st.sampled_from(["x", "X", "x y", "x  Y", "z", "Z", "é", "e\u0301"]), st.sampled_from("ab"))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.lists(WORDS, max_size=12), number=st.integers(0, 10**9))
def test_default_policies_by_their_definition(tmp_path: Path, content: Rows, number: int) -> None:
    labels: dict[str, set[str]] = {}
    for text, label in content:
        labels.setdefault(normal_form(text), set()).add(label)
    expected: dict[str, tuple[str, str]] = {}
    for text, label in content:
        if len(labels[normal_form(text)]) == 1:
            expected.setdefault(normal_form(text), (text, label))
    manifest, kept = ingest(tmp_path / str(number), content)
    assert kept == sorted(expected.values())
    exact = sum(count - 1 for count in Counter(content).values())
    normalised = sum(count - 1 for count in Counter((normal_form(t), c) for t, c in content).values())
    assert manifest.findings["duplicates_exact"] == exact
    assert manifest.findings["duplicates_normalised"] == normalised - exact


def test_the_split_is_drawn_by_seed_and_not_by_order(tmp_path: Path) -> None:
    content = [(f"a text with number {i}", "abc"[i % 3]) for i in range(300)]

    def splits(name: str, order: Rows, seed: int) -> dict[str, list[tuple[str, str]]]:
        run(tmp_path / name, source=write(tmp_path / f"{name}.csv", order), seed=seed)
        return {split: sorted(read_rows(tmp_path / name, split)) for split in ("train", "validation", "test")}

    first = splits("first", content, 0)
    assert splits("reversed", content[::-1], 0) == first
    assert splits("seed", content, 1) != first
    assert [len(found) for found in first.values()] == [240, 30, 30]
    assert Counter(label for _, label in first["test"]) == {"a": 10, "b": 10, "c": 10}


@pytest.mark.parametrize(("num", "expected"), [(1, [0, 0]), (2, [1, 0]), (3, [1, 1]), (10, [1, 1]), (96, [10, 10])])
def test_shares_leave_a_row_to_train_on(num: int, expected: list[int]) -> None:
    assert shares(num, (0.1, 0.1)) == expected


def test_large_fractions_leave_a_row_to_train_on() -> None:
    labels = np.repeat(np.arange(10, dtype=np.int32), 5)
    ranks = Ranks(len(labels))
    for start in (0, 7, 30):
        end = {0: 7, 7: 30, 30: 50}[start]
        ranks.add(np.arange(start, end), labels[start:end])
    codes = split(ranks, labels, 0.49, 0.5)
    assert ranks.by_row.tolist() == [0, 1, 2, 3, 4] * 10
    assert codes.reshape(10, 5).tolist() == [[2, 2, 2, 1, 0]] * 10


def test_a_split_that_gets_no_row(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", [("one", "a"), ("two", "a"), ("three", "b"), ("four", "b")])
    with pytest.raises(DataError, match="no row is left for the validation split; give more rows"):
        run(tmp_path / "out", source=source)


def test_labels_that_differ_only_in_case_are_told(tmp_path: Path) -> None:
    content = [("one more", "Spam"), ("two more", "spam"), ("three more", "Spam"), ("four more", "spam ")]
    manifest, _ = ingest(tmp_path, [*content, ("five", "spam"), ("six", "spam ")])
    assert manifest.findings["labels_alike"] == [["Spam", "spam", "spam "]]
