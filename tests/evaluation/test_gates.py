import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import ConfigError, Conflict, GateFailed
from fairlead.evaluation.gates import gate_stage
from fairlead.formats.evaluation import ChampionScore, ClassScores, Evaluation, EvaluationReport, write_report

ROWS, OTHER_ROWS = "sha256:" + "1" * 64, "sha256:" + "2" * 64
METRICS = {"accuracy": 0.9, "macro_f1": 0.82, "log_loss": 0.31, "calibration_error": 0.04}


@pytest.fixture
def evaluated(tmp_path: Path) -> Any:
    def write(
        champion: dict[str, float] | None = None, champion_rows: str = ROWS, parent: dict[str, float] | None = None
    ) -> str:
        perfect = ClassScores(precision=1, recall=1, f1=1, support=1)
        evaluation = Evaluation(
            dataset="test",
            dataset_digest=ROWS,
            num_rows=1,
            metrics=METRICS,
            per_class={"a": perfect, "b": perfect},
            confusion=[[1, 0], [0, 1]],
            labels=["a", "b"],
        )
        score = None
        if champion:
            score = ChampionScore(version="topics_v3", dataset_digest=champion_rows, metrics=champion)
        report = EvaluationReport(
            run_id="r",
            weights_digest=ROWS,
            data_digest=ROWS,
            evaluations=[evaluation],
            champion=score,
            parent=ChampionScore(version="topics_v2", dataset_digest=ROWS, metrics=parent) if parent else None,
            config={},
        )
        write_report(tmp_path / "evaluation", report)
        return str(tmp_path / "evaluation")

    return write


def judge(evaluation: str, output: Path, **config: Any) -> dict[str, Any]:
    """Run the gate; the verdict, also when it raised."""
    gate_stage.inner(evaluation, config, str(output))
    return verdict_of(output)


def verdict_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "verdict.json").read_text())


def test_no_gate_and_no_champion_pass(evaluated: Any, tmp_path: Path) -> None:
    verdict = judge(evaluated(), tmp_path)
    assert (verdict["passed"], verdict["champion_metric"], verdict["checks"]) == (True, "macro_f1", [])
    assert verdict["config"] == {
        "gate": {},
        "champion_metric": "auto",
        "champion_max_drop": 0.02,
        "parent_metric": "accuracy",
        "parent_max_drop": 0.002,
    }


def test_floors_that_are_met_pass(evaluated: Any, tmp_path: Path) -> None:
    verdict = judge(evaluated(), tmp_path, gate={"macro_f1": 0.82, "accuracy": 0.5})
    assert verdict["passed"] and [c["metric"] for c in verdict["checks"]] == ["accuracy", "macro_f1"]


def test_a_floor_that_is_missed_names_metric_value_and_floor(evaluated: Any, tmp_path: Path) -> None:
    with pytest.raises(GateFailed) as failed:
        judge(evaluated(), tmp_path, gate={"macro_f1": 0.85, "accuracy": 0.95, "log_loss": 0.5})
    assert str(failed.value) == (
        "gate: accuracy = 0.9 is below the floor 0.95, and macro_f1 = 0.82 is below the floor 0.85; "
        "improve the model, or change evaluation.gate on purpose"
    )
    verdict = verdict_of(tmp_path)
    assert not verdict["passed"]
    assert [(c["metric"], c["passed"]) for c in verdict["checks"]] == [
        ("accuracy", False),
        ("log_loss", True),
        ("macro_f1", False),
    ]


def test_of_a_loss_the_bound_is_the_greatest_value(evaluated: Any, tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match=r"log_loss = 0.31 is above the ceiling 0.3;"):
        judge(evaluated(), tmp_path, gate={"log_loss": 0.3})


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"gate": {"roc_auc": 0.8}}, "evaluation.gate: 'roc_auc' is not defined on the rows of test; use one of acc"),
        ({"champion_metric": "f1"}, "evaluation.champion_metric: .* accuracy, calibration_error, log_loss, macro_f1"),
        ({"gate": {"macro_f1": "high"}}, r"evaluation: gate.macro_f1 = 'high' is refused"),
    ],
)
def test_a_wrong_name_or_value_is_one_sentence(evaluated: Any, tmp_path: Path, config: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        judge(evaluated(), tmp_path, **config)


def test_a_small_drop_against_the_champion_passes(evaluated: Any, tmp_path: Path) -> None:
    verdict = judge(evaluated({"macro_f1": 0.84}), tmp_path)
    assert verdict["passed"]
    assert verdict["checks"][0]["champion"] == "topics_v3"


def test_a_large_drop_against_the_champion_stops(evaluated: Any, tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match=r"macro_f1 = 0.82 is below the floor 0.83 \(champion topics_v3 has 0.85\)"):
        judge(evaluated({"macro_f1": 0.85}), tmp_path)
    assert not verdict_of(tmp_path)["passed"]
    assert judge(evaluated({"macro_f1": 0.85}), tmp_path, champion_max_drop=0.03)["passed"]


def test_a_version_that_falls_behind_its_parent_stops_with_both_numbers(evaluated: Any, tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match=r"accuracy = 0.9 is below the floor 0.901 \(parent topics_v2 has 0.903\)"):
        judge(evaluated(parent={"accuracy": 0.903}), tmp_path)
    check = verdict_of(tmp_path)["checks"][0]
    assert (check["kind"], check["parent"], check["value"], check["parent_value"]) == (
        "parent",
        "topics_v2",
        0.9,
        0.903,
    )


def test_a_parent_may_be_undercut_by_two_tenths_of_a_point_and_no_more(evaluated: Any, tmp_path: Path) -> None:
    assert judge(evaluated(parent={"accuracy": 0.902}), tmp_path)["passed"]
    assert judge(evaluated(parent={"accuracy": 0.903}), tmp_path, parent_max_drop=0.003)["passed"]
    assert judge(evaluated(parent={"log_loss": 0.309}), tmp_path, parent_metric="log_loss")["passed"]
    with pytest.raises(GateFailed, match=r"log_loss = 0\.31 is above the ceiling"):
        judge(evaluated(parent={"log_loss": 0.3}), tmp_path, parent_metric="log_loss")


def test_a_champion_compared_by_loss_may_be_undercut(evaluated: Any, tmp_path: Path) -> None:
    settings = {"champion_metric": "log_loss", "champion_max_drop": 0.0}
    assert judge(evaluated({"log_loss": 0.4}), tmp_path, **settings)["passed"]
    with pytest.raises(GateFailed, match=r"log_loss = 0.31 is above the ceiling 0.2 "):
        judge(evaluated({"log_loss": 0.2}), tmp_path, **settings)


def test_a_champion_scored_on_other_rows_is_no_comparison(evaluated: Any, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="topics_v3 was scored on other rows"):
        judge(evaluated({"macro_f1": 0.5}, champion_rows=OTHER_ROWS), tmp_path)


def test_a_refused_model_is_no_case_for_a_retry(evaluated: Any, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        gate_stage(evaluated(), {"gate": {"accuracy": 0.99}}, str(tmp_path))
    assert stopped.value.code == 42
    assert capsys.readouterr().out.splitlines()[-1].startswith("error: gate: accuracy = 0.9 is below the floor 0.99;")


def test_the_gate_runs_in_the_light_image() -> None:
    program = (
        "import sys, fairlead.evaluation.gates\n"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
