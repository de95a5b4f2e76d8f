"""What the report shows of a data set whose rows have a number."""

from html import escape
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fairlead.evaluation.markup import figure, row
from fairlead.evaluation.numbers import Miss
from fairlead.evaluation.pictures import BLUE, GREY, SVG, to_svg

# A dot takes 150 bytes of SVG; past this the picture is a cloud anyway.
MAX_POINTS = 1000
ERROR_BINS = 30


def number_section(targets_N: npt.NDArray[Any], values_N: npt.NDArray[Any], misses: list[Miss]) -> str:
    """The scatter of values against truth, the errors, and the greatest of them."""
    caption = "Predicted against true (dashed: equal), and how often each error occurs"
    if len(targets_N) > MAX_POINTS:
        caption += f"; {MAX_POINTS:,} of {len(targets_N):,} rows are drawn as dots"
    parts = [
        figure(scatter_picture(targets_N, values_N), caption),
        f"<h3>The {len(misses)} greatest errors</h3>" if misses else "",
        _misses(misses),
    ]
    return "\n".join(parts)


def scatter_picture(targets_N: npt.NDArray[Any], values_N: npt.NDArray[Any]) -> str:
    """Predicted against true values beside a histogram of the errors."""
    shown = np.unique(np.linspace(0, len(targets_N) - 1, MAX_POINTS).round().astype(np.int64))
    both = np.concatenate([targets_N, values_N])
    ends = [float(both.min()), float(both.max())]
    with matplotlib.rc_context(SVG):
        drawing = Figure(figsize=(8.6, 4.2), layout="constrained")
        axes, errors = drawing.subplots(1, 2)
        axes.scatter(targets_N[shown], values_N[shown], 10, color=BLUE, alpha=0.4, linewidths=0)
        axes.plot(ends, ends, "--", color=GREY, linewidth=1)
        axes.set(xlabel="true", ylabel="predicted", title="predicted against true")
        errors.hist(values_N - targets_N, ERROR_BINS, color=BLUE, alpha=0.6)
        errors.axvline(0, linestyle="--", color=GREY, linewidth=1)
        errors.set(xlabel="predicted - true", ylabel="rows", title="errors")
        return to_svg(drawing)


def _misses(misses: list[Miss]) -> str:
    if not misses:
        return ""
    head = row("th", ["row", "text", "true", "predicted", "error"])
    rows = [
        f"<tr><td class=n>{m.index}</td><td class=text dir=auto>{escape(m.text)}</td><td class=n>{m.target:.6g}</td>"
        f"<td class='n low'>{m.value:.6g}</td><td class=n>{m.value - m.target:+.6g}</td></tr>"
        for m in misses
    ]
    return f"<table>{head}{''.join(rows)}</table>"
