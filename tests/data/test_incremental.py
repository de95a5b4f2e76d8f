"""What an ingest takes from the version that training continues, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fairlead import places
from fairlead.data.config import DataConfig, IncrementalConfig
from fairlead.data.incremental import find_parent, spread
from fairlead.data.ingest import ingest, localize_sources
from fairlead.errors import ConfigError, DataError, FairleadError, IntegrityError, NotFound
from fairlead.formats import dataset
from fairlead.formats.dataset import DataManifest
from fairlead.registry import open_registry
from tests.data.continuing import register_over, sentences, write_colours, write_csv


def go_on(folder: Path, source: Path, incremental: dict[str, Any] | None = None, **data: Any) -> DataManifest:
    config = DataConfig.parse({"source": str(source), **data})
    parent = find_parent(IncrementalConfig.parse({"parent": "topics:1", **(incremental or {})}), config.task)
    manifest = ingest(config, localize_sources(config, "digest", parent), folder, parent)
    assert dataset.verify(folder) == manifest
    found = manifest.findings
    dropped = sum(policy["dropped"] for policy in found["policies"].values())
    assert found["rows_read"] == sum(s.num_rows for s in manifest.splits.values()) + dropped + found["rejected"]
    return manifest


@pytest.fixture
def first(tmp_path: Path) -> DataManifest:
    """Version 1: 30 texts a class, 24 of them to train on, its classes in an order of their own."""
    source = write_colours(tmp_path / "first.csv", 0, 30)
    return register_over(tmp_path / "first", source, labels=["red", "blue", "green"])


def test_the_parent_s_test_set_stays_and_a_share_of_its_other_rows_is_replayed(
    tmp_path: Path, first: DataManifest
) -> None:
    second = go_on(tmp_path / "second", write_colours(tmp_path / "new.csv", 100, 20), {"replay": 0.25})
    assert second.splits["test"] == first.splits["test"]
    assert {name: split.num_rows for name, split in second.splits.items()} == {
        "train": 48 + 18,
        "validation": 6 + 2,
        "test": 9,
        "new_test": 6,
    }
    assert second.splits["train"].label_counts == dict.fromkeys(("blue", "green", "red"), 16 + 6)
    lineage = second.lineage
    assert lineage is not None and lineage.replayed == {"train": 18, "validation": 2}
    assert (lineage.parent, lineage.data_digest, lineage.replay) == ("topics_v1", first.digest, 0.25)
    with open_registry() as registry:
        assert lineage.parent_digest == registry.get_version("topics", 1).digest
    assert second.labels == ["red", "blue", "green"], "a class keeps its id"


def test_every_replayed_row_says_where_it_came_from(tmp_path: Path, first: DataManifest) -> None:
    go_on(tmp_path / "second", write_colours(tmp_path / "new.csv", 100, 20), {"replay": 0.25})
    parents = [list(dataset.read_rows(tmp_path / "first", split)) for split in ("train", "validation")]
    for split, rows in zip(("train", "validation"), parents, strict=True):
        table = pq.read_table(tmp_path / "second" / f"{split}.parquet").to_pylist()
        replayed = [row for row in table if row["source"] == f"fairlead://topics_v1/{split}"]
        assert replayed and all(rows[row["line"] - 1] == (row["text"], row["label"]) for row in replayed)


def test_the_draw_follows_the_seed_and_the_version_s_name_follows_the_draw(tmp_path: Path, first: DataManifest) -> None:
    source = write_colours(tmp_path / "new.csv", 100, 20)
    digests = [
        go_on(tmp_path / str(i), source, {"replay": replay}, seed=seed).digest
        for i, (replay, seed) in enumerate([(0.25, 0), (0.25, 0), (0.25, 1), (0.5, 0), (0.0, 0)])
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 4
    assert "replay" not in dataset.read_manifest(tmp_path / "4").sources


def test_no_text_of_the_frozen_test_set_is_learned_from(tmp_path: Path, first: DataManifest) -> None:
    frozen = list(dataset.read_rows(tmp_path / "first", "test"))
    leaking = [(text.upper(), label) for text, label in frozen]
    source = write_csv(tmp_path / "new.csv", leaking + [(t, "red") for t in sentences("red", 100, 20)])
    second = go_on(tmp_path / "second", source)
    assert second.findings["by_source"]["train"]["dropped"]["leakage"] == len(frozen)
    learned = {
        text.lower() for split in ("train", "validation") for text, _ in dataset.read_rows(tmp_path / "second", split)
    }
    assert not learned & {text for text, _ in frozen}
    assert second.splits["test"] == first.splits["test"]


def test_a_corrected_label_takes_the_place_of_the_replayed_row(tmp_path: Path, first: DataManifest) -> None:
    text, label = next(iter(dataset.read_rows(tmp_path / "first", "train")))
    other = "red" if label != "red" else "blue"
    source = write_csv(tmp_path / "new.csv", [(text, other)] + [(t, "red") for t in sentences("red", 100, 20)])
    second = go_on(tmp_path / "second", source, {"replay": 1.0})
    assert [row for row in dataset.read_rows(tmp_path / "second", "train") if row[0] == text] == [(text, other)]
    assert second.lineage is not None and second.lineage.replayed == {"train": 71, "validation": 9}


def test_a_text_that_the_parent_was_trained_on_is_never_measured_on(tmp_path: Path, first: DataManifest) -> None:
    """A batch that repeats everything and adds a little: only what is new is split."""
    second = go_on(tmp_path / "second", write_colours(tmp_path / "new.csv", 0, 60), {"replay": 0.0})
    seen = {text for text, _ in dataset.read_rows(tmp_path / "first", "train")}
    for split in ("validation", "new_test"):
        assert not seen & {text for text, _ in dataset.read_rows(tmp_path / "second", split)}
    assert seen < {text for text, _ in dataset.read_rows(tmp_path / "second", "train")}
    assert second.splits["test"] == first.splits["test"]


def test_a_new_label_is_refused_or_comes_last(tmp_path: Path, first: DataManifest) -> None:
    source = write_colours(tmp_path / "new.csv", 100, 20, ("red", "amber"))
    with pytest.raises(DataError, match=r"class 'amber' unknown to topics_v1; .* incremental\.new_labels=grow"):
        go_on(tmp_path / "second", source)
    second = go_on(tmp_path / "second", source, {"new_labels": "grow", "replay": 0.0})
    assert second.labels == ["red", "blue", "green", "amber"]


def test_one_row_is_a_batch_when_old_rows_come_with_it(tmp_path: Path, first: DataManifest) -> None:
    second = go_on(tmp_path / "second", write_csv(tmp_path / "new.csv", [("a brick at last", "red")]))
    assert "new_test" not in second.splits and second.splits["train"].num_rows == 1 + 14


def test_an_own_test_set_is_measured_beside_the_frozen_one(tmp_path: Path, first: DataManifest) -> None:
    own = write_colours(tmp_path / "own.csv", 500, 4)
    second = go_on(tmp_path / "second", write_colours(tmp_path / "new.csv", 100, 20), test=str(own))
    assert second.splits["new_test"].num_rows == 12 and second.splits["test"] == first.splits["test"]


def test_an_own_validation_set_is_not_filled_with_its_own_rows_again(tmp_path: Path, first: DataManifest) -> None:
    own = write_csv(tmp_path / "own.csv", list(dataset.read_rows(tmp_path / "first", "validation")))
    source = write_colours(tmp_path / "new.csv", 100, 20)
    second = go_on(tmp_path / "second", source, {"replay": 1.0}, validation=str(own))
    assert second.splits["validation"] == first.splits["validation"]
    assert second.lineage is not None and second.lineage.replayed == {"train": 72, "validation": 0}


def test_data_that_was_changed_in_the_store_is_refused(tmp_path: Path, first: DataManifest) -> None:
    stored = next(Path(places.store_url()).glob("data/*/train.parquet"))
    table = pq.read_table(stored)
    rows = table.to_pylist()
    rows[3]["label"] = "blue" if rows[3]["label"] != "blue" else "red"
    pq.write_table(table.from_pylist(rows, table.schema), stored)
    with pytest.raises(IntegrityError, match="the rows of 'train' differ"):
        go_on(tmp_path / "second", write_colours(tmp_path / "new.csv", 100, 20))


@pytest.mark.parametrize("name", ["train.parquet", "manifest.json"])
def test_a_file_that_was_damaged_in_the_store_is_named(tmp_path: Path, first: DataManifest, name: str) -> None:
    stored = next(Path(places.store_url()).glob(f"data/*/{name}"))
    for damaged in (stored.read_bytes()[:-8] + b"\xfftampered", b"", b"PAR1"):
        stored.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"cannot be read|is not JSON"):
            go_on(tmp_path / "second", write_colours(tmp_path / "new.csv", 100, 20))


def test_data_that_is_gone_is_named(tmp_path: Path, first: DataManifest) -> None:
    next(Path(places.store_url()).glob("data/*/manifest.json")).unlink()
    with pytest.raises(NotFound, match=r"manifest\.json"):
        go_on(tmp_path / "second", write_colours(tmp_path / "new.csv", 100, 20))


def test_a_frozen_test_set_that_would_change_stops_it(tmp_path: Path, first: DataManifest) -> None:
    with pytest.raises(FairleadError, match=r"test split of topics_v1|set aside"):
        go_on(
            tmp_path / "second",
            write_csv(tmp_path / "new.csv", [(f"red {i}", "red") for i in range(20)]),
            max_text_bytes=8,
            max_rejected_share=1.0,
        )


@pytest.mark.parametrize(
    ("incremental", "data", "error", "sentence"),
    [
        ({"parent": "topics:9"}, {}, NotFound, "topics_v9"),
        ({"parent": "topics@staging"}, {}, NotFound, "staging"),
        ({"parent": "nothing_yet"}, {}, NotFound, "nothing_yet"),
        ({"parent": "Not A Name"}, {}, ConfigError, "is not a project name"),
        ({"replay": 1.5}, {}, ConfigError, "replay"),
        ({"replay": -0.1}, {}, ConfigError, "replay"),
        ({"new_labels": "maybe"}, {}, ConfigError, "new_labels"),
        ({}, {"task": "multi_label"}, ConfigError, "multi_label is not the task of topics_v1"),
        ({}, {"task": "language_modeling"}, ConfigError, "set model.base to fairlead://topics:1"),
        ({}, {"extra": {"new_test": "x.csv"}}, ConfigError, "'new_test' names rows of incremental training"),
    ],
)
def test_mistakes_are_refused(
    tmp_path: Path,
    first: DataManifest,
    incremental: dict[str, Any],
    data: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    with pytest.raises(error, match=sentence):
        go_on(tmp_path / "second", write_colours(tmp_path / "new.csv", 100, 20), incremental, **data)


@pytest.mark.parametrize(("size", "count"), [(10, 0), (10, 3), (10, 10), (7, 2), (1, 1), (0, 0)])
def test_a_draw_has_exactly_its_size_and_is_spread(size: int, count: int) -> None:
    mask = spread(range(size), count)
    assert mask.sum() == count
    gaps = np.diff(np.flatnonzero(mask))
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
