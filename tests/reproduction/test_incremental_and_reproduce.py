"""A version that continues another one, and both run again, for real: each costs seconds of starting Python.

One home serves every test of this file; those that damage it work on a copy.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from fairlead import places
from fairlead.cli.main import main
from fairlead.errors import Conflict, GateFailed
from fairlead.formats import dataset
from fairlead.formats.model import read_training
from fairlead.registry import VersionRecord, open_registry
from fairlead.training.run import train_stage
from tests.reproduction.stages import PROJECT, TRAINING, go, write_rows

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Made:
    home: Path
    folder: Path
    first: VersionRecord
    second: VersionRecord


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_HOME", str(folder / "home"))
        first = go(folder / "first", write_rows(folder / "first.csv", 0))
        grown = write_rows(folder / "second.csv", 1, ("sea", "fire"))
        incremental = {"parent": f"{PROJECT}:1", "replay": 0.5, "new_labels": "grow"}
        second = go(folder / "second", grown, incremental)
    return Made(folder / "home", folder, first, second)


@pytest.fixture
def home(made: Made, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the home of both versions."""
    shutil.copytree(made.home, home, ignore=shutil.ignore_patterns("checkpoints", "*-locks"))
    return home


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    def run(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main([*arguments, "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    return run


def everything_in(home: Path) -> set[str]:
    with open_registry() as registry:
        runs = {f"{run.run_id} {run.attempts} {run.status}" for run in registry.list_runs()}
        versions = {f"{version.name} {version.aliases}" for version in registry.list_versions(PROJECT)}
    stored = {str(path) for path in (home / "store").rglob("*")}
    return runs | versions | stored | {str(path) for path in home.glob("reproductions/*")}


def test_a_version_that_continues_another_records_it(made: Made) -> None:
    record = made.second.manifest.training
    assert (record.parent_version, record.parent) == (made.first.name, made.first.digest)
    assert record.config["incremental"] == {"parent": made.first.name, "replay": 0.5, "seed": 0}
    assert record.config["model"]["base"] == f"fairlead://{made.first.name}"
    assert record.labels == ["sea", "sky", "soil", "fire"], "the new class comes last"
    lineage = dataset.read_manifest(made.folder / "second" / "data").lineage
    assert lineage is not None and lineage.parent_digest == made.first.digest
    assert lineage.replayed == {"train": 42, "validation": 6}


def test_it_trains_with_the_parent_s_tokenizer(made: Made) -> None:
    first, second = (read_training(made.folder / name / "model") for name in ("first", "second"))
    tokenizers = [made.folder / name / "tokens" / "tokenizer" / "tokenizer.json" for name in ("first", "second")]
    assert tokenizers[0].read_bytes() == tokenizers[1].read_bytes()
    assert second.weights_digest != first.weights_digest


def test_both_were_judged_on_the_very_same_rows(made: Made) -> None:
    first, second = made.first.manifest, made.second.manifest
    assert first.evaluations[0]["dataset_digest"] == second.evaluations[0]["dataset_digest"]
    (check,) = [check for check in second.checks if check["kind"] == "parent"]
    assert check["passed"] and check["parent"] == made.first.name
    assert check["parent_value"] == made.first.metrics["accuracy"] and check["value"] == made.second.metrics["accuracy"]


def test_models_show_and_compare_say_the_parent(
    home: Path, answer: Callable[..., tuple[int, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "show", f"{PROJECT}:2"]) == 0
    shown = capsys.readouterr().out
    assert "continues" in shown and f"{PROJECT}_v1, replay 0.5, accuracy" in " ".join(shown.split())
    _, compared = answer("models", "compare", f"{PROJECT}:1", f"{PROJECT}:2")
    assert compared["parent"]["version"] == [None, f"{PROJECT}_v1"] and compared["same_test_rows"]


def test_a_poisoned_batch_stops_with_both_numbers_and_registers_nothing(made: Made, home: Path, tmp_path: Path) -> None:
    before = everything_in(home / "none")
    poison = write_rows(tmp_path / "poison.csv", 2, shuffled=True)
    with pytest.raises(GateFailed) as failed:
        go(tmp_path / "third", poison, {"parent": f"{PROJECT}:1", "replay": 0.0})
    accuracy = made.first.metrics["accuracy"]
    assert f"(parent {made.first.name} has {accuracy:.6g})" in str(failed.value)
    verdict = json.loads((tmp_path / "third" / "verdict" / "verdict.json").read_text())
    (check,) = [check for check in verdict["checks"] if check["kind"] == "parent"]
    assert f"accuracy = {check['value']:.6g} is below the floor {accuracy - 0.002:.6g}" in str(failed.value)
    assert {line for line in everything_in(home / "none") if PROJECT in line} == {
        line for line in before if PROJECT in line
    }


def test_a_model_that_does_not_start_from_its_data_s_parent_is_refused(made: Made, home: Path, tmp_path: Path) -> None:
    data, tokens = str(made.folder / "second" / "data"), str(made.folder / "second" / "tokens")
    arguments = (data, tokens, {"base": f"fairlead://{PROJECT}:2"}, TRAINING, str(tmp_path / "model"))
    with pytest.raises(Conflict, match=r"cannot read tokens made for|the model starts from"):
        train_stage.inner(PROJECT, *arguments)
    arguments = (data, tokens, {"base": f"fairlead://{PROJECT}:1"}, TRAINING, str(tmp_path / "model"))
    with pytest.raises(Conflict, match=f"is a version of {PROJECT}, not of other_topics"):
        train_stage.inner("other_topics", *arguments)


def test_killed_in_training_it_goes_on_to_the_same_weights(made: Made, home: Path, tmp_path: Path) -> None:
    folders = [str(made.folder / "second" / name) for name in ("data", "tokens")]
    model = {"depth": 1, "base": f"fairlead://{PROJECT}:1"}
    arguments = [PROJECT, *folders, model, TRAINING | {"checkpoint_every_steps": 2}, str(tmp_path / "model")]
    code = "import json, sys; from fairlead.training.run import train_stage; train_stage(*json.loads(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(arguments)])
    while not list(home.glob("checkpoints/*/step-*/state.json")):
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not list(home.glob("checkpoints/*/finished"))
    train_stage.inner(*arguments)
    assert read_training(tmp_path / "model").weights_digest == made.second.weights_digest
    with open_registry() as registry:
        assert registry.get_run(made.second.run_id).attempts == 3, "once by itself, once killed, once more"


def test_a_version_and_its_parent_come_out_the_same_and_nothing_of_the_user_s_is_touched(
    made: Made, home: Path, answer: Callable[..., tuple[int, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run has the name that it had: a checkpoint of then would be found there, and be the answer.
    monkeypatch.setenv("FAIRLEAD_CHECKPOINTS", str(home / "elsewhere"))
    before = everything_in(home)
    code, found = answer("reproduce", f"{PROJECT}:2", "--chain")
    assert (code, found["verdict"]) == (0, "same")
    assert [one["version"] for one in found["versions"]] == [made.first.name, made.second.name]
    for one, version in zip(found["versions"], (made.first, made.second), strict=True):
        assert one["weights"] == [version.weights_digest] * 2 and one["tokens"][0] == one["tokens"][1]
        assert one["distance"] == 0 and not any(one["differences"].values())
    assert found["versions"][1]["parent"] == made.first.name
    assert everything_in(home) == before and not (home / "elsewhere").exists()


def change_record(change: Callable[[dict[str, Any]], None]) -> None:
    """Make the registry say something else of version 1."""
    engine = sqlalchemy.create_engine(places.registry_url())
    where = "WHERE project = :project AND number = 1"
    with engine.begin() as connection:
        text = connection.execute(
            sqlalchemy.text(f"SELECT manifest FROM versions {where}"), {"project": PROJECT}
        ).scalar_one()
        manifest = json.loads(text)
        change(manifest["training"])
        connection.execute(
            sqlalchemy.text(f"UPDATE versions SET manifest = :manifest {where}"),
            {"manifest": json.dumps(manifest), "project": PROJECT},
        )


def test_other_weights_come_with_what_differs_and_how_far_the_metrics_are(
    home: Path, answer: Callable[..., tuple[int, Any]]
) -> None:
    def change(training: dict[str, Any]) -> None:
        training["config"]["training"] |= {"seed": 7, "epochs": 1, "old_setting": 3}
        del training["config"]["training"]["label_smoothing"]
        training["environment"]["torch"] = "1.0"

    change_record(change)
    code, found = answer("reproduce", f"{PROJECT}:1", "--tolerance", "0")
    assert (code, found["verdict"]) == (4, "different")
    assert found["weights"][0] != found["weights"][1] and found["distance"] > 0
    assert found["differences"]["environment"]["torch"][0] == "1.0"
    assert found["differences"]["settings"] == {
        "training.old_setting": [3, "unknown here"],
        "training.label_smoothing": ["not recorded", 0.0],
    }


def test_what_is_gone_or_changed_is_named(home: Path, answer: Callable[..., tuple[int, Any]]) -> None:
    parquet = max((home / "store" / "data").glob("*/train.parquet"), key=lambda path: path.stat().st_mtime)
    content = parquet.read_bytes()
    shutil.rmtree(home / "data", ignore_errors=True)
    parquet.write_bytes(content[:-8] + b"tampered")
    code, found = answer("reproduce", f"{PROJECT}:2")
    assert (code, found["verdict"], found["link"]) == (5, "broken", "data")
    parquet.unlink()
    code, found = answer("reproduce", f"{PROJECT}:2")
    assert (code, found["link"]) == (5, "data")

    parquet.write_bytes(content)
    shutil.rmtree(home / "models")
    weights = home / "store" / "models" / PROJECT / "v0001" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    code, found = answer("reproduce", f"{PROJECT}:2")
    assert (code, found["link"]) == (5, "base") and "model.safetensors" in found["reason"]


def test_mistakes_exit_with_2(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, sentence in (
        ([f"{PROJECT}:9"], "tiny_topics_v9"),
        (["nothing_yet"], "nothing_yet"),
        ([PROJECT, "--tolerance", "2"], "tolerance"),
        ([PROJECT, "--keep", str(tmp_path / "full")], "is not an empty folder"),
    ):
        assert main(["reproduce", *arguments]) == 2
        assert sentence in capsys.readouterr().err
