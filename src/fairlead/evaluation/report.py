"""The report for people: one HTML file that fetches nothing, with every text escaped."""

import json
from collections.abc import Iterable, Sequence
from html import escape

from fairlead.evaluation.metrics import Scores
from fairlead.evaluation.mistakes import Mistake
from fairlead.evaluation.pictures import MAX_CLASSES, confusion_picture, curves_picture, reliability_picture
from fairlead.formats.digests import short
from fairlead.formats.evaluation import LOWER_IS_BETTER, METRICS, Evaluation, EvaluationReport

NUM_CONFUSED_PAIRS = 15

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c; background: #fff; max-width: 84rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #cbd5e0; }
.from { color: #4a5568; font-size: .85rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #e2e8f0; vertical-align: top; }
th { background: #f7fafc; position: sticky; top: 0; } .n { text-align: right; }
.scroll { overflow: auto; max-height: 32rem; border: 1px solid #e2e8f0; }
.text { min-width: 22rem; overflow-wrap: anywhere; white-space: pre-wrap; } .label { overflow-wrap: anywhere; }
.note { background: #fffaf0; border-left: 4px solid #dd6b20; padding: .5rem 1rem; }
.low { color: #c53030; } figure { margin: 1rem 0; overflow-x: auto; } figcaption { color: #4a5568; font-size: .85rem; }
svg { height: auto; } .pair { display: flex; flex-wrap: wrap; gap: 2rem; }
"""

Shown = tuple[Scores, list[Mistake]]
Cell = str | int | float


def render(project: str, report: EvaluationReport, shown: Sequence[Shown]) -> str:
    """The whole page; `shown` has the scores and mistakes of each of the report's evaluations, in order."""
    sections = [_data_set(e, *s) for e, s in zip(report.evaluations, shown, strict=True)]
    parts = [
        f"<h1>{escape(project)}</h1>",
        f"<p class=from>run {escape(report.run_id)} · weights {short(report.weights_digest)} · "
        f"data {short(report.data_digest)}</p>",
        *(f"<p class=note>{escape(note)}</p>" for note in report.notes),
        "<h2>Summary</h2>",
        _summary(report),
        *sections,
        "<h2>Settings</h2>",
        f"<pre>{escape(json.dumps(report.config, indent=2, sort_keys=True))}</pre>",
    ]
    # The policy makes the promise of the docstring binding: no script runs and nothing is fetched.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(project)}: evaluation</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def _summary(report: EvaluationReport) -> str:
    present = [name for name in METRICS if any(name in e.metrics for e in report.evaluations)]
    rows: list[list[Cell]] = [
        [e.dataset, e.num_rows, *(e.metrics.get(name, "–") for name in present)] for e in report.evaluations
    ]
    for kind, other in (("parent", report.parent), ("champion", report.champion)):
        if other:
            scores = [other.metrics.get(name, "–") for name in present]
            rows.insert(1, [f"{kind} {other.version}", report.evaluations[0].num_rows, *scores])
    heads = [name.replace("_", " ") + (" ↓" if name in LOWER_IS_BETTER else "") for name in present]
    return _table(["data set", "rows", *heads], rows)


def _data_set(evaluation: Evaluation, scores: Scores, mistakes: list[Mistake]) -> str:
    digest = short(evaluation.dataset_digest)
    pictures = [_figure(reliability_picture(scores.bins), f"Reliability; calibration error {_error(evaluation)}")]
    if scores.curves:
        positive = evaluation.per_class[scores.curves.positive].support / evaluation.num_rows
        caption = f"Two-class curves of {scores.curves.positive!r}"
        pictures.append(_figure(curves_picture(scores.curves, positive), caption))
    more = ""
    if len(evaluation.labels) > MAX_CLASSES:
        more = f"; the {MAX_CLASSES} classes with most mistakes of {len(evaluation.labels)}"
    parts = [
        f"<h2>{escape(evaluation.dataset)}</h2><p class=from>{evaluation.num_rows} rows · {digest}</p>",
        f"<div class=pair>{''.join(pictures)}</div>",
        "<h3>Confusion</h3>",
        _figure(confusion_picture(evaluation), f"Rows are true classes, columns predicted ones{more}"),
        _table(["true", "predicted", "rows"], _confused(evaluation)),
        "<h3>Classes</h3>",
        f"<div class=scroll>{_table(['class', 'precision', 'recall', 'F1', 'rows'], _classes(evaluation))}</div>",
        f"<h3>The {len(mistakes)} mistakes it was surest of</h3>" if mistakes else "<h3>No mistakes to show</h3>",
        _mistakes(mistakes),
    ]
    return "\n".join(parts)


def _classes(evaluation: Evaluation) -> list[list[Cell]]:
    """The weakest first: that is where work pays."""
    ordered = sorted(evaluation.per_class.items(), key=lambda item: (item[1].support == 0, item[1].f1, item[0]))
    return [[label, s.precision, s.recall, s.f1, s.support] for label, s in ordered]


def _confused(evaluation: Evaluation) -> list[list[Cell]]:
    pairs = [
        (count, evaluation.labels[i], evaluation.labels[j])
        for i, row in enumerate(evaluation.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [[true, predicted, count] for count, true, predicted in pairs[:NUM_CONFUSED_PAIRS]]


def _mistakes(mistakes: list[Mistake]) -> str:
    if not mistakes:
        return ""
    head = _row("th", ["row", "text", "true", "predicted", "probability", "of the true one"])
    rows = [
        f"<tr><td class=n>{m.index}</td><td class=text dir=auto>{escape(m.text)}</td>"
        f"<td class=label>{escape(m.label)}</td><td class='label low'>{escape(m.predicted)}</td>"
        f"<td class=n>{m.probability:.4f}</td><td class=n>{m.label_probability:.4f}</td></tr>"
        for m in mistakes
    ]
    return f"<table>{head}{''.join(rows)}</table>"


def _error(evaluation: Evaluation) -> str:
    return f"{evaluation.metrics['calibration_error']:.4f}"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(heads: Iterable[str], rows: Sequence[Sequence[Cell]]) -> str:
    if not rows:
        return ""
    return f"<table>{_row('th', heads)}{''.join(_row('td', row) for row in rows)}</table>"


def _row(tag: str, cells: Iterable[Cell]) -> str:
    return "<tr>" + "".join(_cell(tag, cell) for cell in cells) + "</tr>"


def _cell(tag: str, cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<{tag}>{escape(cell)}</{tag}>"
    return f"<{tag} class=n>{cell:.4f}</{tag}>" if isinstance(cell, float) else f"<{tag} class=n>{cell:,}</{tag}>"
