"""What a label is, by task: sets of classes and numbers, from files of every kind."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.data.config import DataConfig
from fairlead.data.ingest import Source, ingest
from fairlead.errors import DataError
from fairlead.formats import dataset
from fairlead.formats.dataset import DataManifest

SETS = [["bug"], ["bug", "ui"], [], ["ui"], ["docs", "bug"], ["docs"]] * 6


def run(path: Path, **settings: Any) -> DataManifest:
    config = DataConfig.parse({"source": str(path), **settings})
    return ingest(config, [Source("train", str(path), path)], path.parent / f"{path.name}.data")


def write_csv(path: Path, values: list[str]) -> Path:
    rows = (f'text {i},"{value}"\n' for i, value in enumerate(values))
    path.write_text("text,label\n" + "".join(rows))
    return path


def test_sets_are_the_same_from_every_format(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"text {i}", "label": labels}) for i, labels in enumerate(SETS)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    columns = {"text": [f"text {i}" for i in range(len(SETS))], "label": SETS}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    paths = [
        write_csv(tmp_path / "a.csv", ["|".join(labels) for labels in SETS]),
        write_csv(tmp_path / "python.csv", [repr(labels) for labels in SETS]),
        tmp_path / "a.jsonl",
        tmp_path / "a.parquet",
    ]
    manifests = [run(path, task="multi_label") for path in paths]
    assert len({manifest.digest for manifest in manifests}) == 1
    assert manifests[0].labels == ["bug", "docs", "ui"]
    assert set(manifests[0].splits["test"].label_counts) == {"bug", "docs", "ui"}
    labels = {label for _, label in dataset.read_rows(tmp_path / "a.csv.data", "train")}
    assert '["bug", "docs"]' in labels and "[]" in labels


@pytest.mark.parametrize(
    ("value", "reason"),
    [("['a' 'b']", "a list that cannot be read"), ("[null]", "something else than names"), ("['']", "an empty name")],
)
def test_a_list_that_is_none_of_names_is_set_aside(tmp_path: Path, value: str, reason: str) -> None:
    path = write_csv(tmp_path / "a.csv", ["|".join(labels) for labels in SETS] + [value])
    manifest = run(path, task="multi_label", max_rejected_share=0.1)
    rejected = json.loads((tmp_path / "a.csv.data" / "rejected.jsonl").read_text())
    assert manifest.findings["rejected"] == 1 and reason in rejected["reason"] and rejected["line"] == len(SETS) + 2


@pytest.mark.parametrize(
    ("values", "settings", "sentence"),
    [
        ([";".join(labels) for labels in SETS], {}, "no row has two labels separated by '|', but many hold ';'"),
        ([""] * 30, {}, "no row to train on has a label"),
        ([f"a{i}|b{i}" for i in range(60)], {"max_classes": 100}, "more than 100 different labels"),
    ],
)
def test_sets_that_cannot_be_learned_are_refused(
    tmp_path: Path, values: list[str], settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError) as refused:
        run(write_csv(tmp_path / "a.csv", values), task="multi_label", **settings)
    assert sentence in str(refused.value)


def test_one_text_with_two_sets_is_a_conflict(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"text {i},{'|'.join(labels)}\n" for i, labels in enumerate(SETS))
    path.write_text(f"text,label\n{rows}same,bug|ui\nSame,ui|bug\nother,bug\nother,bug|ui\n")
    findings = run(path, task="multi_label").findings
    assert (findings["conflicts"], findings["duplicates_normalised"]) == (2, 1)


def test_numbers_are_read_and_what_is_none_is_set_aside(tmp_path: Path) -> None:
    values = [str(i / 4) for i in range(30)] + ["nan", "inf", "1e400", "many", "1_000", ""]
    manifest = run(write_csv(tmp_path / "a.csv", values), task="regression", max_rejected_share=0.5)
    reasons = manifest.findings["rejected_reasons"]
    assert reasons == {
        "the label is not a finite number": 3,
        "the label is not a number": 2,
        "the label is empty": 1,
    }
    train = [float(label) for _, label in dataset.read_rows(tmp_path / "a.csv.data", "train")]
    numbers = manifest.splits["train"].numbers
    assert numbers["mean"] == pytest.approx(sum(train) / len(train)) and numbers["max"] == max(train)
    assert manifest.labels == [] and manifest.splits["train"].label_counts == {}


def test_one_number_for_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"every row to train on has the number 3; give rows"):
        run(write_csv(tmp_path / "a.csv", ["3", "3.0"] * 20), task="regression")
