"""What the report shows of a data set whose rows have any number of labels."""

from collections.abc import Sequence
from html import escape

from fairlead.evaluation.markup import Cell, figure, row, table
from fairlead.evaluation.pictures import reliability_picture
from fairlead.evaluation.sets import SetMistake, SetScores
from fairlead.formats.evaluation import Evaluation


def set_section(
    evaluation: Evaluation, scores: SetScores, thresholds: Sequence[float], mistakes: list[SetMistake]
) -> str:
    """Reliability, classes and mistakes."""
    caption = (
        f"Reliability over all pairs of row and class; calibration error {scores.metrics['calibration_error']:.4f}"
    )
    heads = ["class", "precision", "recall", "F1", "average precision", "rows", "threshold"]
    parts = [
        figure(reliability_picture(scores.bins), caption),
        "<h3>Classes</h3>",
        f"<div class=scroll>{table(heads, _classes(evaluation, thresholds))}</div>",
        f"<h3>The {len(mistakes)} worst mistakes</h3>" if mistakes else "<h3>No mistakes to show</h3>",
        _mistakes(mistakes),
    ]
    return "\n".join(parts)


def _classes(evaluation: Evaluation, thresholds: Sequence[float]) -> list[list[Cell]]:
    """The weakest first: that is where work pays."""
    named = zip(evaluation.per_class.items(), thresholds, strict=True)
    ordered = sorted(named, key=lambda item: (item[0][1].support == 0, item[0][1].f1, item[0][0]))
    return [
        [label, s.precision, s.recall, s.f1, "–" if s.average_precision is None else s.average_precision, s.support, t]
        for (label, s), t in ordered
    ]


def _mistakes(mistakes: list[SetMistake]) -> str:
    if not mistakes:
        return ""
    head = row("th", ["row", "text", "missed", "wrong", "loss"])
    rows = [
        f"<tr><td class=n>{m.index}</td><td class=text dir=auto>{escape(m.text)}</td>"
        f"<td class=label>{escape(', '.join(m.missed))}</td><td class='label low'>{escape(', '.join(m.wrong))}</td>"
        f"<td class=n>{m.loss:.4f}</td></tr>"
        for m in mistakes
    ]
    return f"<table>{head}{''.join(rows)}</table>"
