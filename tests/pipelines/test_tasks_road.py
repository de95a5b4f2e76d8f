"""Sets of labels, and numbers: from a file to a version, to `fairlead predict` and a real server's answer."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.main import main
from fairlead.config import apply_overrides
from fairlead.formats.evaluation import HTML, read_report
from fairlead.project import ProjectConfig
from fairlead.registry.fetching import fetch_version
from tests.pipelines.road import WORDS, walk
from tests.serving.conftest import Server, running

SETS, NUMBERS = "tiny_sets", "tiny_numbers"
SETTINGS = {
    "data.validation_fraction": 0.2,
    "data.test_fraction": 0.2,
    "tokenization.max_length": 16,
    "model.depth": 1,
    "model.dropout": 0,
    "training.epochs": 12,
    "training.batch_size": 16,
    "training.learning_rate": 0.01,
    # What is compared here are answers of the weights themselves.
    "optimization.enabled": "false",
    "training.threads": 1,
}


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What `fairlead <arguments> --json` says; it must end well."""
    capsys.readouterr()
    code = main([*(str(argument) for argument in arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def run(capsys: pytest.CaptureFixture[str], data: Path, task: str, **gate: float) -> dict[str, Any]:
    settings = [f"{name}={value}" for name, value in SETTINGS.items()] + [f"evaluation.gate={json.dumps(gate)}"]
    changes = [word for setting in settings for word in ("--set", setting)]
    done: dict[str, Any] = say(capsys, "run", "--data", data, "--task", task, "--project", SETS, *changes)
    return done


def write(path: Path, rows: list[tuple[str, Any]]) -> Path:
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def v1(server: Server, model: str, texts: list[str]) -> list[dict[str, Any]]:
    response = server.post(f"/v1/models/{model}:predict", json={"instances": texts})
    assert response.status_code == 200, response.text
    predictions: list[dict[str, Any]] = response.json()["predictions"]
    return predictions


def v2(server: Server, model: str, texts: list[str]) -> dict[str, list[Any]]:
    question = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    response = server.post(f"/v2/models/{model}/infer", json={"inputs": [question]})
    assert response.status_code == 200, response.text
    assert response.json()["parameters"]["model_version"] == f"{model}_v1"
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def sets_of_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A version of sets of labels, by `fairlead run`."""
    chosen = random.Random(0)
    rows = []
    for i in range(150):
        labels = [label for label in WORDS if chosen.random() < 0.5]
        words = [word for label in labels for word in chosen.sample(WORDS[label], 2)]
        rows.append((" ".join([*words, "and", str(i)]), labels))
    done = run(capsys, write(folder / "sets.jsonl", rows), "multi_label", micro_f1=0.7, mcc=0.5)
    assert {"subset_accuracy", "hamming_loss", "average_precision", "mcc"} <= done["metrics"].keys()
    assert "hamming loss" in Path(done["report"]).read_text("utf-8")


def numbers(folder: Path) -> None:
    """A version of numbers, walked to in this process."""
    chosen = random.Random(1)
    grades = {"awful": 10.0, "poor": 20.0, "fair": 30.0, "good": 40.0, "superb": 50.0}
    pairs = [(chosen.choice(list(grades)), chosen.choice(list(grades))) for _ in range(160)]
    rows = [(f"{a} and {b} {i}", (grades[a] + grades[b]) / 2) for i, (a, b) in enumerate(pairs)]
    values = apply_overrides({}, [f"{name}={value}" for name, value in SETTINGS.items()])
    values |= {"project": NUMBERS, "evaluation": {"gate": {"r2": 0.5, "rmse": 8}}}
    values["data"] |= {"source": str(write(folder / "numbers.jsonl", rows)), "task": "regression"}
    at = walk(ProjectConfig.parse(values), folder / "road")
    assert (at["evaluate"] / HTML).exists()
    assert 0.5 < read_report(at["evaluate"]).evaluations[0].metrics["r2"] <= 1


@pytest.mark.timeout(900)
def test_sets_of_labels_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets_of_labels(tmp_path, capsys)
    numbers(tmp_path)
    texts = {SETS: ["wave boat cloud wind and 3", "root clay and 4", "and 7"]}
    texts[NUMBERS] = ["awful and awful 3", "superb and superb 4"]
    said = {project: say(capsys, "predict", project, *some) for project, some in texts.items()}
    labels, values = [row["labels"] for row in said[SETS]], [row["value"] for row in said[NUMBERS]]
    assert labels[:2] == [["sea", "sky"], ["soil"]]
    assert values[0] < 22 < 38 < values[1], "in the unit of the labels"
    # One server has both.
    with running(fetch_version(SETS), "--model", str(fetch_version(NUMBERS))) as server:
        assert [row["labels"] for row in v1(server, SETS, texts[SETS])] == labels
        assert [json.loads(row) for row in v2(server, SETS, texts[SETS])["labels"]] == labels
        assert [row["value"] for row in v1(server, NUMBERS, texts[NUMBERS])] == pytest.approx(values, rel=1e-4)
        assert v2(server, NUMBERS, texts[NUMBERS])["value"] == pytest.approx(values, rel=1e-4)
