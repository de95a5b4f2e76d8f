"""The evaluate stage: a trained model on the test split, on further data sets, and beside the champion."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fairlead.errors import DataError
from fairlead.evaluation.champion import Question, score_champion, score_parent
from fairlead.evaluation.config import EvaluationConfig
from fairlead.evaluation.dashboard import (
    ClassificationMetrics,
    ScalarMetrics,
    log_classification,
    log_metrics,
    notes_on,
)
from fairlead.evaluation.inputs import Inputs
from fairlead.evaluation.judges import JUDGES, Answers
from fairlead.evaluation.metrics import Curves
from fairlead.evaluation.predictions import PREDICTION_SCHEMA, write_predictions
from fairlead.evaluation.report import render
from fairlead.events import result
from fairlead.formats import dataset, tokens
from fairlead.formats.atomic import write_bytes
from fairlead.formats.dataset import TEST
from fairlead.formats.evaluation import CHAMPION_METRICS, HTML, PREDICTIONS, Evaluation, EvaluationReport, write_report
from fairlead.formats.tokens import known_rows
from fairlead.names import LANGUAGE_MODELING
from fairlead.stage import stage


@stage("evaluate")
def evaluate_stage(
    project: str,
    data: str,
    tokens: str,
    model: str,
    config: dict[str, Any],
    output: str,
    html: str,
    metrics: ScalarMetrics | None = None,
    classification: ClassificationMetrics | None = None,
) -> None:
    """Evaluate the trained model in folder `model`; write evaluation.json, predictions.parquet and the report.

    `config` is EvaluationConfig's. `html` is one more path for the report; `metrics` and
    `classification` are KFP's artifacts, when there are any.
    """
    settings = EvaluationConfig.parse(config, where="evaluation")
    inputs = Inputs.read(Path(data), Path(tokens), Path(model))
    report, page, curves = evaluate(project, inputs, settings, Path(output))
    if metrics is not None:
        log_metrics(metrics, report.evaluations, report.champion)
    if classification is not None:
        log_classification(classification, report.evaluations[0], curves)
    for path in (Path(html), Path(output) / HTML):
        write_bytes(path, page)
    write_report(Path(output), report)
    result("evaluate", _rows(report))


@dataclass(frozen=True)
class Scored:
    """One evaluated data set with what only the report shows of it."""

    evaluation: Evaluation
    curves: Curves | None
    section: str
    """The report's HTML."""


def evaluate(
    project: str, inputs: Inputs, settings: EvaluationConfig, output: Path
) -> tuple[EvaluationReport, bytes, Any]:
    """Score every data set, the champion and the parent; the report, its HTML page and the test split's curves."""
    if inputs.tokens_manifest.task == LANGUAGE_MODELING:
        from fairlead.evaluation.language_report import evaluate_language_model

        return *evaluate_language_model(project, inputs, settings, output), None
    scored, notes = evaluate_datasets(inputs, settings, output)
    question = Question(
        project=project,
        data=inputs.data,
        manifest=inputs.data_manifest,
        own=scored[0].evaluation,
        own_weights_digest=inputs.record.weights_digest,
        own_task=inputs.record.task,
        terms=inputs.terms(settings),
    )
    champion, note = score_champion(question)
    notes += [note] if note else []
    notes += notes_on(scored[0].evaluation)
    report = EvaluationReport(
        run_id=inputs.record.run_id,
        weights_digest=inputs.record.weights_digest,
        data_digest=inputs.data_manifest.digest,
        task=inputs.record.task,
        evaluations=[one.evaluation for one in scored],
        champion=champion,
        parent=score_parent(question),
        notes=notes,
        config=settings.to_dict(),
    )
    page = render(project, report, [one.section for one in scored])
    return report, page.encode(), scored[0].curves


def evaluate_datasets(inputs: Inputs, settings: EvaluationConfig, output: Path) -> tuple[list[Scored], list[str]]:
    """Score every data set, the test split first, and write predictions.parquet; with notes for the reader."""
    # torch takes 3 s to import, which a wrong setting or input need not wait for.
    from fairlead.training.models.building import load_classifier

    dataset.verify(inputs.data, inputs.datasets)
    model = load_classifier(inputs.model)
    output.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    scored = []
    with pq.ParquetWriter(output / PREDICTIONS, PREDICTION_SCHEMA) as writer:
        for name in inputs.datasets:
            one = _evaluate_split(name, model, inputs, settings, writer, notes)
            scored += [one] if one else []
    return scored, notes


def _evaluate_split(
    name: str, model: Any, inputs: Inputs, settings: EvaluationConfig, writer: Any, notes: list[str]
) -> Scored | None:
    from fairlead.evaluation.scoring import score

    arrays = tokens.open_split(inputs.tokens, inputs.tokens_manifest, name)
    outputs_NC = score(model, arrays, inputs.tokens_manifest.pad_token_id, name)
    targets, judge, terms = np.asarray(arrays.labels), JUDGES[inputs.record.task], inputs.terms(settings)
    known_N = known_rows(targets, inputs.record.task)
    num_unknown = int((~known_N).sum())
    if num_unknown:
        notes.append(f"{name}: {num_unknown} of {len(known_N)} rows have labels unknown to the model and were left out")
    write_predictions(writer, name, inputs.data, *judge.say(terms, outputs_NC))
    if not known_N.any():
        if name == TEST:
            raise DataError("evaluate: no label of the test split is known to the model; check the test source")
        return None
    judgement = judge.measure(terms, targets[known_N], outputs_NC[known_N])
    evaluation = Evaluation(
        dataset=name,
        dataset_digest=inputs.data_manifest.splits[name].digest,
        num_rows=int(known_N.sum()),
        num_unknown_labels=num_unknown,
        metrics=judgement.metrics,
        per_class=judgement.per_class,
        confusion=judgement.confusion,
        labels=inputs.labels,
    )
    rows = dataset.read_rows(inputs.data, name)
    answers = Answers(rows, targets, known_N, outputs_NC, settings.num_mistakes)
    return Scored(evaluation, judgement.curves, judge.section(terms, evaluation, judgement, answers))


def _rows(report: EvaluationReport) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for evaluation in report.evaluations:
        prefix = "" if evaluation.dataset == TEST else f"{evaluation.dataset} "
        rows |= {f"{prefix}{name}": round(value, 4) for name, value in evaluation.metrics.items()}
    for kind, other in (("champion", report.champion), ("parent", report.parent)):
        if other:
            names = dict.fromkeys(("accuracy", CHAMPION_METRICS[report.task]))
            found = [(name, other.metrics[name]) for name in names if name in other.metrics]
            rows[kind] = f"{other.version}: {', '.join(f'{name} {value:.4f}' for name, value in found)}"
    return rows | ({"notes": "; ".join(report.notes)} if report.notes else {})
