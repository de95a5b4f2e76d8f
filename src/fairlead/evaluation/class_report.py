"""What the report shows of a data set whose rows have one label."""

from html import escape

from fairlead.evaluation.markup import Cell, figure, row, table
from fairlead.evaluation.metrics import Scores
from fairlead.evaluation.mistakes import Mistake
from fairlead.evaluation.pictures import MAX_CLASSES, confusion_picture, curves_picture, reliability_picture
from fairlead.formats.evaluation import Evaluation

NUM_CONFUSED_PAIRS = 15


def class_section(evaluation: Evaluation, scores: Scores, mistakes: list[Mistake]) -> str:
    """Reliability, curves, confusion, classes and mistakes of a data set whose rows have one label."""
    pictures = [figure(reliability_picture(scores.bins), f"Reliability; calibration error {_error(evaluation)}")]
    if scores.curves:
        positive = evaluation.per_class[scores.curves.positive].support / evaluation.num_rows
        caption = f"Two-class curves of {scores.curves.positive!r}"
        pictures.append(figure(curves_picture(scores.curves, positive), caption))
    more = ""
    if len(evaluation.labels) > MAX_CLASSES:
        more = f"; the {MAX_CLASSES} classes with most mistakes of {len(evaluation.labels)}"
    parts = [
        f"<div class=pair>{''.join(pictures)}</div>",
        "<h3>Confusion</h3>",
        figure(confusion_picture(evaluation), f"Rows are true classes, columns predicted ones{more}"),
        table(["true", "predicted", "rows"], _confused(evaluation)),
        "<h3>Classes</h3>",
        f"<div class=scroll>{table(['class', 'precision', 'recall', 'F1', 'rows'], _classes(evaluation))}</div>",
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
    head = row("th", ["row", "text", "true", "predicted", "probability", "of the true one"])
    rows = [
        f"<tr><td class=n>{m.index}</td><td class=text dir=auto>{escape(m.text)}</td>"
        f"<td class=label>{escape(m.label)}</td><td class='label low'>{escape(m.predicted)}</td>"
        f"<td class=n>{m.probability:.4f}</td><td class=n>{m.label_probability:.4f}</td></tr>"
        for m in mistakes
    ]
    return f"<table>{head}{''.join(rows)}</table>"


def _error(evaluation: Evaluation) -> str:
    return f"{evaluation.metrics['calibration_error']:.4f}"
