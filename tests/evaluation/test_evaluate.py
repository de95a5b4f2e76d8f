import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from kfp.dsl import ClassificationMetrics, Metrics
from sklearn.metrics import accuracy_score, f1_score

from fairlead.errors import Conflict, IntegrityError
from fairlead.evaluation.evaluate import evaluate_stage
from fairlead.formats import dataset
from fairlead.formats.digests import of_file
from fairlead.formats.evaluation import HTML, PREDICTIONS, REPORT, EvaluationReport, read_report

CONFIG = {"calibration_bins": 10.0, "num_mistakes": 5.0}


def run(trained: Any, output: Path, **changes: Any) -> EvaluationReport:
    arguments = {
        "project": "topics",
        "data": str(trained.data),
        "tokens": str(trained.tokens),
        "model": str(trained.model),
        "config": CONFIG,
        "output": str(output),
        "html": str(output / "artifact.html"),
    }
    evaluate_stage.inner(**arguments | changes)
    return read_report(output)


@pytest.fixture(scope="module")
def done(three_topics: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_HOME", str(tmp_path_factory.mktemp("home")))
        run(three_topics, output)
    return output


def test_the_test_split_comes_first_and_training_splits_not_at_all(done: Path) -> None:
    assert [e.dataset for e in read_report(done).evaluations] == ["test", "abroad"]


def test_metrics_are_those_of_the_written_predictions(three_topics: Any, done: Path) -> None:
    test = read_report(done).evaluations[0]
    rows = pl.read_parquet(done / PREDICTIONS).filter(pl.col("dataset") == "test").sort("index")
    assert rows["label"].to_list() == [label for _, label in dataset.read_rows(three_topics.data, "test")]
    truth, said = rows["label"], rows["predicted"]
    assert test.metrics["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert test.metrics["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro"))
    assert test.metrics["accuracy"] >= 0.9, "the tiny model has to have learned something"
    assert rows["probability"].is_between(1 / 3, 1).all()


def test_digests_tie_the_report_to_its_inputs(three_topics: Any, done: Path) -> None:
    report, manifest = read_report(done), dataset.read_manifest(three_topics.data)
    assert report.data_digest == manifest.digest
    assert report.evaluations[0].dataset_digest == manifest.splits["test"].digest
    assert report.weights_digest == of_file(three_topics.model / "model.safetensors")


def test_labels_unknown_to_the_model_are_counted_and_left_out(done: Path) -> None:
    report = read_report(done)
    abroad = report.evaluations[1]
    assert (abroad.num_rows, abroad.num_unknown_labels) == (12, 2)
    assert np.sum(abroad.confusion) == 12
    assert report.notes == ["abroad: 2 of 14 rows have labels unknown to the model and were left out"]
    rows = pl.read_parquet(done / PREDICTIONS).filter(pl.col("dataset") == "abroad")
    assert rows["label"].to_list().count("sky") == 2


def test_the_page_fetches_nothing_and_escapes_texts(done: Path) -> None:
    page = (done / HTML).read_text("utf-8")
    assert page == (done / "artifact.html").read_text("utf-8")
    assert "&lt;script&gt;alert(&#x27;oak&#x27;)&lt;/script&gt; &amp; the very old oak pine" in page
    assert "<script" not in page
    assert not any(mark in page for mark in ('src="http', 'href="http', "url(http", "@import"))
    assert page.count("<svg") == 4


def test_the_same_inputs_give_the_same_bytes(three_topics: Any, done: Path, tmp_path: Path) -> None:
    run(three_topics, tmp_path)
    for name in (REPORT, HTML):
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes()


def test_the_dashboard_gets_metrics_and_matrix(three_topics: Any, tmp_path: Path) -> None:
    scalars, classification = Metrics(), ClassificationMetrics()
    report = run(three_topics, tmp_path, metrics=scalars, classification=classification)
    assert scalars.metadata["macro_f1"] == report.evaluations[0].metrics["macro_f1"]
    assert scalars.metadata["abroad_accuracy"] == report.evaluations[1].metrics["accuracy"]
    matrix = classification.metadata["confusionMatrix"]
    assert [spec["displayName"] for spec in matrix["annotationSpecs"]] == ["fish", "rock", "tree"]
    assert [row["row"] for row in matrix["rows"]] == report.evaluations[0].confusion
    json.dumps([scalars.metadata, classification.metadata], allow_nan=False)


def test_a_matrix_that_the_dashboard_leaves_out_is_noted(
    three_topics: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.evaluation.dashboard.MAX_CATEGORIES", 2)
    assert any("no confusion matrix of 3 classes" in note for note in run(three_topics, tmp_path).notes)


def test_two_classes_have_curves_of_the_rarer_one(two_topics: Any, tmp_path: Path) -> None:
    classification = ClassificationMetrics()
    report = run(two_topics, tmp_path, classification=classification)
    test, stones = report.evaluations
    assert test.metrics["f1"] == test.per_class["fish"].f1
    assert {"roc_auc", "average_precision"} <= test.metrics.keys()
    assert not {"roc_auc", "average_precision"} & stones.metrics.keys(), "one class has no curve"
    points = classification.metadata["confidenceMetrics"]
    assert (points[0]["falsePositiveRate"], points[-1]["recall"]) == (0, 1)
    assert all(math.isfinite(value) for point in points for value in point.values())
    assert "Two-class curves of &#x27;fish&#x27;" in (tmp_path / HTML).read_text("utf-8")


def test_other_weights_than_recorded_are_refused(three_topics: Any, two_topics: Any, tmp_path: Path) -> None:
    model = shutil.copytree(three_topics.model, tmp_path / "model")
    shutil.copy(two_topics.model / "model.safetensors", model)
    with pytest.raises(IntegrityError, match=r"model.safetensors: it differs from training.json"):
        run(three_topics, tmp_path / "output", model=str(model))
    assert not (tmp_path / "output").exists()


def test_data_that_the_model_was_not_trained_on_is_refused(three_topics: Any, two_topics: Any, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="was not trained on the data"):
        run(three_topics, tmp_path, data=str(two_topics.data))
    with pytest.raises(Conflict, match="was not trained on the"):
        run(three_topics, tmp_path, tokens=str(two_topics.tokens))


def test_a_changed_test_row_is_found(three_topics: Any, tmp_path: Path) -> None:
    data = shutil.copytree(three_topics.data, tmp_path / "data")
    shutil.copy(data / "validation.parquet", data / "test.parquet")
    with pytest.raises(IntegrityError, match="rows of 'test' differ"):
        run(three_topics, tmp_path / "output", data=str(data))


def test_the_stage_ends_with_its_numbers(three_topics: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("FAIRLEAD_EVENTS", str(events))
    report = run(three_topics, tmp_path / "output")
    last = json.loads(events.read_text().splitlines()[-1])
    assert (last["event"], last["stage"]) == ("result", "evaluate")
    assert last["rows"]["accuracy"] == round(report.evaluations[0].metrics["accuracy"], 4)
