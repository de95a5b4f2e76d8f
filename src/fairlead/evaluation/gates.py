"""The gate: a model that is not good enough stops here, with the reason, and its report stays.

verdict.json    passed, champion_metric, and checks: a list of {kind, metric, value, bound, at_most, passed},
                for the champion also {champion, champion_value}, for the parent of incremental training also
                {parent, parent_value}; config: the settings named in GATE_SETTINGS
"""

from pathlib import Path
from typing import Any

from fairlead.errors import ConfigError, Conflict, GateFailed
from fairlead.evaluation.config import EvaluationConfig
from fairlead.events import result
from fairlead.formats.atomic import write_json
from fairlead.formats.evaluation import LOWER_IS_BETTER, ChampionScore, Evaluation, read_report
from fairlead.registry.links import GATE_SETTINGS
from fairlead.stage import stage

VERDICT = "verdict.json"
# Language models are compared by this one, whatever their tokenizers, unless another of theirs is set.
LANGUAGE_METRIC = "nats_per_character"

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
    if LANGUAGE_METRIC in test.metrics and settings.champion_metric not in test.metrics:
        settings = settings.model_copy(update={"champion_metric": LANGUAGE_METRIC})
    checks = floor_checks(settings.gate, test) + champion_checks(settings, test, report.champion)
    checks += parent_checks(settings, test, report.parent)
    failed = [check for check in checks if not check["passed"]]
    Path(output).mkdir(parents=True, exist_ok=True)
    verdict = {"passed": not failed, "champion_metric": settings.champion_metric, "checks": checks}
    verdict["config"] = settings.model_dump(mode="json", include=set(GATE_SETTINGS))
    write_json(Path(output) / VERDICT, verdict)
    if failed:
        reasons = ", and ".join(_sentence(check) for check in failed)
        raise GateFailed(f"gate: {reasons}; improve the model, or change evaluation.gate on purpose")
    result("gate", {"passed": f"{len(checks)} checks" if checks else "nothing to check", **_rows(checks)})


def floor_checks(gate: dict[str, float], test: Evaluation) -> list[Check]:
    """One check for each metric of the gate on the test split."""
    return [_check("floor", metric, _value(test, metric, "gate"), bound) for metric, bound in sorted(gate.items())]


def champion_checks(settings: EvaluationConfig, test: Evaluation, champion: ChampionScore | None) -> list[Check]:
    """The check against the champion, when there is one to compare with."""
    return _drop_checks("champion", settings.champion_metric, settings.champion_max_drop, test, champion)


def parent_checks(settings: EvaluationConfig, test: Evaluation, parent: ChampionScore | None) -> list[Check]:
    """The check against the version that training continued, on its test rows: the guard of incremental training."""
    return _drop_checks("parent", settings.parent_metric, settings.parent_max_drop, test, parent) if parent else []


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
