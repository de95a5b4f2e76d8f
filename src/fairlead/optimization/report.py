"""The report for people: one HTML page in the form of evaluation's."""

from html import escape

from fairlead.evaluation.markup import Cell, table
from fairlead.formats.variants import OptimizationRecord, VariantRecord
from fairlead.optimization.table import rows

MILLISECOND = 1e-3


def sections(record: OptimizationRecord) -> list[str]:
    """The page's parts, as HTML."""
    found = rows(record)
    shown = [[_cell(value) for value in row.values()] for row in found]
    return [
        "<h2>Variants</h2>",
        f"<p>{escape(record.chosen)} serves ({escape(record.target)}): {escape(record.reason)}.</p>",
        f"<p class=from>{record.num_rows:,} validation texts · {escape(record.test)} · "
        f"{escape(record.hardware)} · texts/s of {record.config.get('threads', 1)} thread(s)</p>",
        table([name.capitalize() for name in found[0]], shown) if found else "",
        _export(record),
        _refused(record),
        *(_speeds(variant) for variant in record.variants if variant.speeds),
        _probabilities(record),
    ]


def _export(record: OptimizationRecord) -> str:
    if record.max_export_difference is None:
        return ""
    difference = f"{record.max_export_difference:.2g}"
    return f"<p>Logits of the exported ONNX file differ from torch's by at most {difference} on real texts.</p>"


def _refused(record: OptimizationRecord) -> str:
    items = sorted(record.refused.items())
    return "<h3>Not built</h3>" + table(["variant", "why"], items) if items else ""


def _speeds(variant: VariantRecord) -> str:
    heads = ["texts", "tokens each", "texts/s", "p50 ms", "p99 ms", "calls"]
    cells: list[list[Cell]] = [
        [
            speed.batch,
            speed.length,
            round(speed.texts_per_second, 1),
            speed.p50_seconds / MILLISECOND,
            speed.p99_seconds / MILLISECOND,
            speed.calls,
        ]
        for speed in variant.speeds
    ]
    return f"<h3>{escape(variant.name)}</h3>{table(heads, cells)}"


def _probabilities(record: OptimizationRecord) -> str:
    parts = []
    if found := record.calibration:
        cells: list[list[Cell]] = [
            ["calibration error", found.error_before, found.error_after],
            ["log loss", found.log_loss_before, found.log_loss_after],
        ]
        parts += [
            f"<h2>Probabilities</h2><p>Temperature {record.temperature:g}, fitted on the validation split; "
            f"judged on {found.num_rows:,} texts of {escape(found.split)}.</p>",
            table(["", "before", "after"], cells),
        ]
    if rejection := record.rejection:
        parts.append(
            f"<p>A text whose best probability is below {record.rejection_threshold:.4f} is rejected: "
            f"{1 - rejection.kept_share:.2%} of the test split. Accuracy on what is kept: "
            f"{rejection.accuracy_kept:.4f}.</p>"
        )
    if rejection and rejection.out_of_scope is not None and rejection.rejected_share is not None:
        parts.append(f"<p>Of {escape(rejection.out_of_scope)}, {rejection.rejected_share:.2%} is rejected.</p>")
    return "".join(parts)


def _cell(value: Cell | None) -> Cell:
    return "–" if value is None else value
