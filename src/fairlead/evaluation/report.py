"""The report for people: one HTML file that fetches nothing, with every text escaped."""

import json
from collections.abc import Sequence
from html import escape

from fairlead.evaluation.markup import Cell, table
from fairlead.formats.digests import short
from fairlead.formats.evaluation import LOWER_IS_BETTER, METRICS, Evaluation, EvaluationReport

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


def render(project: str, report: EvaluationReport, sections: Sequence[str]) -> str:
    """The whole page; `sections` are what is shown of each of the report's evaluations, in order, as HTML."""
    parts = [
        "<h2>Summary</h2>",
        _summary(report),
        *(_head(e) + section for e, section in zip(report.evaluations, sections, strict=True)),
    ]
    return page(project, report, parts)


def page(project: str, report: EvaluationReport, parts: Sequence[str]) -> str:
    """A report's page: its heading, `parts` as HTML, and the settings; no script runs and nothing is fetched."""
    parts = [
        f"<h1>{escape(project)}</h1>",
        f"<p class=from>run {escape(report.run_id)} · weights {short(report.weights_digest)} · "
        f"data {short(report.data_digest)}</p>",
        *(f"<p class=note>{escape(note)}</p>" for note in report.notes),
        *parts,
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
    return table(["data set", "rows", *heads], rows)


def _head(evaluation: Evaluation) -> str:
    digest = short(evaluation.dataset_digest)
    return f"<h2>{escape(evaluation.dataset)}</h2><p class=from>{evaluation.num_rows} rows · {digest}</p>\n"
