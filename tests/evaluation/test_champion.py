import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import GateFailed, IntegrityError
from fairlead.evaluation.evaluate import evaluate_stage
from fairlead.evaluation.gates import gate_stage
from fairlead.formats import dataset, model
from fairlead.formats.evaluation import EvaluationReport, read_report
from fairlead.places import store_url
from fairlead.registry import open_registry
from fairlead.registry.registration import register_stage
from fairlead.storage import open_store
from tests.evaluation.conftest import Trained, rows_about

LABELS = ["fish", "rock", "tree"]


def evaluate(trained: Trained, output: Path) -> EvaluationReport:
    folders = (str(trained.data), str(trained.tokens), str(trained.model))
    evaluate_stage.inner("topics", *folders, {}, str(output), str(output / "page.html"))
    return read_report(output)


def register(trained: Trained, folder: Path) -> str:
    """Everything from evaluate to register, as the pipeline has it."""
    evaluate(trained, folder / "evaluation")
    gate_stage.inner(str(folder / "evaluation"), {}, str(folder / "verdict"))
    record, manifest = model.read_training(trained.model), dataset.read_manifest(trained.data)
    with open_registry() as registry:
        open_store(store_url()).put_bytes("data/x/manifest.json", b"{}")
        registry.record_data_version(manifest, "data/x/")
        registry.start_run(
            record.run_id,
            "topics",
            record.data_digest,
            record.tokens_digest,
            record.config,
            record.seed,
            record.environment,
            record.code,
        )
        registry.finish_run(record.run_id, "finished", weights_digest=record.weights_digest)
    folders = (trained.data, trained.tokens, trained.model, folder / "evaluation", folder / "verdict", folder / "out")
    return str(register_stage.inner("topics", *map(str, folders)))


@pytest.fixture(scope="session")
def challenger(tmp_path_factory: pytest.TempPathFactory, train_tiny: Any, three_topics: Trained) -> Trained:
    """A model that learned nothing, on other training rows and with another tokenizer; the test rows are the same."""
    splits = {
        "train": rows_about(LABELS, 45, 7),
        "validation": rows_about(LABELS, 6, 8),
        "test": list(dataset.read_rows(three_topics.data, "test")),
    }
    trained: Trained = train_tiny(tmp_path_factory.mktemp("challenger"), splits, seed=1, steps=0)
    return trained


def test_the_first_model_has_no_champion(three_topics: Trained, tmp_path: Path) -> None:
    report = evaluate(three_topics, tmp_path)
    assert report.champion is None
    assert not any("champion" in note for note in report.notes)


def test_a_champion_known_on_these_rows_is_not_scored_again(
    three_topics: Trained, challenger: Trained, tmp_path: Path
) -> None:
    assert register(three_topics, tmp_path / "first") == "topics_v1"
    shutil.rmtree(Path(store_url()) / "models")
    report = evaluate(challenger, tmp_path / "second")
    assert report.champion is not None and report.champion.version == "topics_v1"
    assert report.champion.metrics == read_report(tmp_path / "first" / "evaluation").evaluations[0].metrics
    with pytest.raises(GateFailed, match=r"macro_f1 = .* is below the floor .* \(champion topics_v1 has"):
        gate_stage.inner(str(tmp_path / "second"), {}, str(tmp_path / "verdict"))


def test_the_champion_itself_passes_its_own_gate(three_topics: Trained, tmp_path: Path) -> None:
    register(three_topics, tmp_path / "first")
    report = evaluate(three_topics, tmp_path / "again")
    assert report.champion is not None
    assert report.champion.metrics == report.evaluations[0].metrics
    gate_stage.inner(str(tmp_path / "again"), {"champion_max_drop": 0.0}, str(tmp_path / "verdict"))


@pytest.fixture
def newer(tmp_path: Path, train_tiny: Any) -> Trained:
    """The same labels, all rows new."""
    splits = {
        "train": rows_about(LABELS, 45, 20),
        "validation": rows_about(LABELS, 6, 21),
        "test": rows_about(LABELS, 24, 22),
    }
    trained: Trained = train_tiny(tmp_path / "newer", splits, seed=2, steps=0)
    return trained


def test_on_new_rows_the_champion_is_fetched_and_scored_with_its_own_tokenizer(
    three_topics: Trained, newer: Trained, tmp_path: Path
) -> None:
    register(three_topics, tmp_path / "first")
    report = evaluate(newer, tmp_path / "second")
    champion, test = report.champion, report.evaluations[0]
    assert champion is not None and champion.dataset_digest == test.dataset_digest
    assert champion.metrics.keys() == test.metrics.keys()
    # It learned these topics; read with the new model's tokenizer its answers would be noise.
    assert champion.metrics["accuracy"] >= 0.9 > test.metrics["accuracy"]
    assert "champion topics_v1" in (tmp_path / "second" / "report.html").read_text("utf-8")


def test_a_champion_that_was_tampered_with_is_never_loaded(
    three_topics: Trained, newer: Trained, tmp_path: Path
) -> None:
    register(three_topics, tmp_path / "first")
    weights = next((Path(store_url()) / "models").rglob("model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(IntegrityError):
        evaluate(newer, tmp_path / "second")


def test_a_champion_with_other_labels_is_noted_and_not_compared(
    two_topics: Trained, three_topics: Trained, tmp_path: Path
) -> None:
    register(two_topics, tmp_path / "first")
    report = evaluate(three_topics, tmp_path / "second")
    assert report.champion is None
    assert "topics_v1 knows other labels and was not compared" in report.notes
    assert json.loads((tmp_path / "second" / "evaluation.json").read_text())["champion"] is None
