"""A language model's evaluation as a whole: its scores, the champion's beside them, samples, and the page."""

import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from fairlead.evaluation.config import EvaluationConfig
from fairlead.evaluation.inputs import Inputs
from fairlead.evaluation.language import Sample, evaluate_language, score_version, write_samples
from fairlead.evaluation.report import page
from fairlead.formats import dataset
from fairlead.formats.evaluation import ChampionScore, Evaluation, EvaluationReport
from fairlead.names import LANGUAGE_MODELING, ModelRef
from fairlead.registry import open_registry
from fairlead.registry.fetching import fetch_version

HEADS = {
    "loss": "nats a token",
    "perplexity": "perplexity",
    "nats_per_character": "nats a character",
    "bits_per_byte": "bits a byte",
}


def evaluate_language_model(
    project: str, inputs: Inputs, settings: EvaluationConfig, output: Path
) -> tuple[EvaluationReport, bytes]:
    """Score every data set and the champion, and write samples; the report and its HTML page."""
    from fairlead.training.models.language_models import load_language_model

    dataset.verify(inputs.data, inputs.datasets)
    model = load_language_model(inputs.model)
    output.mkdir(parents=True, exist_ok=True)
    evaluations = evaluate_language(model, inputs)
    champion, note = _champion(project, inputs, evaluations[0])
    report = EvaluationReport(
        run_id=inputs.record.run_id,
        weights_digest=inputs.record.weights_digest,
        data_digest=inputs.data_manifest.digest,
        task=LANGUAGE_MODELING,
        evaluations=evaluations,
        champion=champion,
        notes=[note] if note else [],
        config=settings.to_dict(),
    )
    return report, _page(project, report, write_samples(model, inputs)).encode()


def _champion(project: str, inputs: Inputs, own: Evaluation) -> tuple[ChampionScore | None, str | None]:
    """The champion's scores on the test split, or None with the reason a reader should know."""
    with open_registry() as registry:
        champion = registry.champion(project)
        if champion is None:
            return None, None
        recorded = registry.find_evaluation(champion.weights_digest, own.dataset_digest)
    training = champion.manifest.training
    if not training.writes_text:
        return None, f"{champion.name} is no language model and was not compared"
    if champion.weights_digest == inputs.record.weights_digest:
        metrics = own.metrics
    elif recorded is not None and own.metrics.keys() <= recorded.metrics.keys():
        metrics = recorded.metrics
    else:
        folder = fetch_version(str(ModelRef(project, number=champion.number)))
        with tempfile.TemporaryDirectory(prefix="fairlead-champion-") as work:
            metrics = score_version(folder, training.max_length, inputs.data, Path(work), champion.name)
    return ChampionScore(version=champion.name, dataset_digest=own.dataset_digest, metrics=metrics), None


def _page(project: str, report: EvaluationReport, samples: Sequence[Sample]) -> str:
    parts = [
        "<h2>Summary</h2>",
        _summary(report),
        "<h2>What it writes</h2>",
        "<p class=from>From places of the test split; then what the text really says there.</p>",
        *(_sample(sample) for sample in samples),
    ]
    return page(project, report, parts)


def _summary(report: EvaluationReport) -> str:
    rows = [(evaluation.dataset, evaluation.metrics) for evaluation in report.evaluations]
    if report.champion:
        rows.insert(1, (f"champion {report.champion.version}", report.champion.metrics))
    present = [name for name in HEADS if any(name in metrics for _, metrics in rows)]
    heads = "".join(f"<th>{head}</th>" for head in ("data set", *(f"{HEADS[name]} ↓" for name in present)))
    lines = []
    for name, metrics in rows:
        cells = "".join(f"<td class=n>{metrics[key]:.4f}</td>" if key in metrics else "<td>–</td>" for key in present)
        lines.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


def _sample(sample: Sample) -> str:
    return (
        f"<table><tr><th>prompt</th><td class=text dir=auto>{escape(sample.prompt)}</td></tr>"
        f"<tr><th>written</th><td class=text dir=auto>{escape(sample.written)}</td></tr>"
        f"<tr><th>the text</th><td class=text dir=auto>{escape(sample.true)}</td></tr></table><br>"
    )
