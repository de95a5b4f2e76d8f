"""The gate: a model that is not good enough stops here, with the reason, and its report stays.

verdict.json    passed, champion_metric, and checks: a list of {kind, metric, value, bound, at_most, passed},
                for the champion also {champion, champion_value}, for the parent of incremental training also
                {parent, parent_value}; config: the settings named in GATE_SETTINGS
"""

from pathlib import Path
from typing import Any

from fairlead.errors import ConfigError, Conflict, GateFailed
from fairlead.evaluation.config import AUTO, EvaluationConfig
from fairlead.events import result
from fairlead.formats.atomic import write_json
from fairlead.formats.evaluation import (
    CHAMPION_METRICS,
    LOWER_IS_BETTER,
    ChampionScore,
    Evaluation,
    EvaluationReport,
    read_report,
)
from fairlead.names import CLASSIFICATION, TaskName
from fairlead.registry.links import GATE_SETTINGS
from fairlead.stage import stage

VERDICT = "verdict.json"
# Language models are compared by this one, whatever their tokenizers, unless another of theirs is set.

Check = dict[str, Any]


@stage("gate")
def gate_stage(evaluation: str, config: dict[str, Any], output: str) -> None:
    """Judge the evaluation in a folder and write `<output>/verdict.json`, whichever way it goes.

    `config` is EvaluationConfig's. Raises GateFailed with the metric, its value and the floor, and
    ConfigError for the name of a metric that was not measured.
    """
    settings = EvaluationConfig.parse(config, where="evaluation")
    report = read_report(Path(evaluation))
    test = report.evaluations[0]
    metric = champion_metric(settings, report)
    checks = floor_checks(settings.gate, test) + champion_checks(settings, test, report.champion, metric)
    checks += parent_checks(settings, test, report.parent, report.task)
    failed = [check for check in checks if not check["passed"]]
    Path(output).mkdir(parents=True, exist_ok=True)
    verdict = {"passed": not failed, "champion_metric": metric, "checks": checks}
    verdict["config"] = settings.model_dump(mode="json", include=set(GATE_SETTINGS))
    write_json(Path(output) / VERDICT, verdict)
    if failed:
        reasons = ", and ".join(_sentence(check) for check in failed)
        raise GateFailed(f"gate: {reasons}; improve the model, or change evaluation.gate on purpose")
    result("gate", {"passed": f"{len(checks)} checks" if checks else "nothing to check", **_rows(checks)})


def floor_checks(gate: dict[str, float], test: Evaluation) -> list[Check]:
    """One check for each metric of the gate on the test split."""
    return [_check("floor", metric, _value(test, metric, "gate"), bound) for metric, bound in sorted(gate.items())]


def champion_metric(settings: EvaluationConfig, report: EvaluationReport) -> str:
    """The metric that is compared with the champion's."""
    return CHAMPION_METRICS[report.task] if settings.champion_metric == AUTO else settings.champion_metric


def champion_checks(
    settings: EvaluationConfig, test: Evaluation, champion: ChampionScore | None, metric: str
) -> list[Check]:
    """The check against the champion, when there is one to compare with."""
    if champion is None and settings.champion_metric == AUTO:
        return []
    return _drop_checks("champion", metric, settings.champion_max_drop, test, champion)


def parent_checks(
    settings: EvaluationConfig, test: Evaluation, parent: ChampionScore | None, task: TaskName
) -> list[Check]:
    """The check against the version that training continued, on its test rows: the guard of incremental training."""
    # The default is about single labels.
    by_task = settings.parent_metric == AUTO or (task != CLASSIFICATION and settings.parent_metric == "accuracy")
    metric = CHAMPION_METRICS[task] if by_task else settings.parent_metric
    return _drop_checks("parent", metric, settings.parent_max_drop, test, parent) if parent else []


def _drop_checks(kind: str, metric: str, drop: float, test: Evaluation, other: ChampionScore | None) -> list[Check]:
    """At most `drop` points of `metric` lost against another version on the same rows."""
    value = _value(test, metric, f"{kind}_metric")
    if other is None:
        return []
    if other.dataset_digest != test.dataset_digest:
        raise Conflict(f"gate: {other.version} was scored on other rows; run evaluate again")
    if metric not in other.metrics:
        raise Conflict(f"gate: {other.version} has no {metric!r} on these rows; run evaluate again")
    best = other.metrics[metric]
    bound = best + drop if metric in LOWER_IS_BETTER else best - drop
    return [_check(kind, metric, value, bound) | {kind: other.version, f"{kind}_value": best}]


def _value(test: Evaluation, metric: str, setting: str) -> float:
    if metric in test.metrics:
        return test.metrics[metric]
    # Metrics of two classes are not measured on three.
    measured = ", ".join(sorted(test.metrics))
    raise ConfigError(
        f"evaluation.{setting}: {metric!r} is not defined on the rows of {test.dataset}; use one of {measured}"
    )


def _check(kind: str, metric: str, value: float, bound: float) -> Check:
    at_most = metric in LOWER_IS_BETTER
    # Rounding of the last bits is no reason to refuse a model: 0.85 asked for, 0.8499999999999999 reached.
    passed = value <= bound + 1e-9 if at_most else value >= bound - 1e-9
    return {"kind": kind, "metric": metric, "value": value, "bound": bound, "at_most": at_most, "passed": passed}


def _sentence(check: Check) -> str:
    side = "above the ceiling" if check["at_most"] else "below the floor"
    whose = ""
    if (kind := check["kind"]) in ("champion", "parent"):
        whose = f" ({kind} {check[kind]} has {check[f'{kind}_value']:.6g})"
    return f"{check['metric']} = {check['value']:.6g} is {side} {check['bound']:.6g}{whose}"


def _rows(checks: list[Check]) -> dict[str, str]:
    sides = {True: "at most", False: "at least"}
    return {
        f"{check['kind']} {check['metric']}": f"{check['value']:.6g}, {sides[check['at_most']]} {check['bound']:.6g}"
        for check in checks
    }
