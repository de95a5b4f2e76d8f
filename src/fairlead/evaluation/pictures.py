"""The pictures of a report, as inline SVG: nothing to fetch, sharp at any size, the same bytes every time."""

import io
import warnings

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fairlead.evaluation.metrics import Bin, Curves
from fairlead.formats.evaluation import Evaluation

# Past this the names are no longer readable on one picture; the classes with most mistakes are shown.
MAX_CLASSES = 100
# Numbers fit into cells up to here.
MAX_NUMBERED_CLASSES = 25
MAX_LABEL_CHARACTERS = 40
BLUE, RED, GREY = "#2b6cb0", "#c53030", "#a0aec0"
# Text stays text (searchable, 10 times smaller); ids come from a fixed salt, so that the bytes repeat.
SVG = {"svg.fonttype": "none", "svg.hashsalt": "fairlead", "font.family": "sans-serif", "font.size": 9}


def confusion_picture(evaluation: Evaluation) -> str:
    """Confusion matrix: each row the shares of a true class; the diagonal is right."""
    labels, counts_CC, rest = _shown(evaluation)
    shares_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True) + rest[:, None], 1)
    num_classes = len(labels)
    # 0.15 inches a class hold a name in 7 points; the names themselves take about 2 inches.
    side = max(4.0, 0.15 * num_classes + 2.0)
    with matplotlib.rc_context(SVG):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares_CC, cmap="Blues", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        _name_classes(axes, labels)
        if num_classes <= MAX_NUMBERED_CLASSES:
            _write_counts(axes, counts_CC, shares_CC)
        figure.colorbar(image, ax=axes, shrink=0.4, aspect=30, pad=0.01, label="share of the true class")
        return to_svg(figure)


def reliability_picture(bins: list[Bin]) -> str:
    """Accuracy against confidence, above the number of rows in each bin; a calibrated model is on the diagonal."""
    filled = [b for b in bins if b.num_rows]
    with matplotlib.rc_context(SVG):
        figure = Figure(figsize=(4.6, 5.0), layout="constrained")
        axes, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        centers, widths = [(b.low + b.high) / 2 for b in filled], [b.high - b.low for b in filled]
        axes.bar(centers, [b.accuracy for b in filled], widths, color=BLUE, alpha=0.35, edgecolor="white")
        axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
        # Bins of few rows jump about: a dot's area is its bin's share of the rows.
        total = sum(b.num_rows for b in filled)
        areas = [8 + 120 * b.num_rows / total for b in filled]
        axes.scatter([b.confidence for b in filled], [b.accuracy for b in filled], areas, color=BLUE, zorder=3)
        axes.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.03))
        below.bar(centers, [b.num_rows for b in filled], widths, color=GREY, edgecolor="white")
        below.set(xlabel="probability of the predicted class", ylabel="rows")
        return to_svg(figure)


def curves_picture(curves: Curves, share: float) -> str:
    """ROC and precision-recall side by side; dashed is chance (`share` of the rows are positive)."""
    with matplotlib.rc_context(SVG):
        figure = Figure(figsize=(8.6, 4.2), layout="constrained")
        roc, pr = figure.subplots(1, 2)
        roc.plot(curves.fpr, curves.tpr, color=BLUE)
        roc.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
        roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
        # A staircase: between two thresholds precision does not change linearly.
        pr.step(curves.recall, curves.precision, where="post", color=BLUE)
        pr.axhline(share, linestyle="--", color=GREY, linewidth=1)
        pr.set(xlabel="recall", ylabel="precision", title="precision and recall")
        for axes in (roc, pr):
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        return to_svg(figure)


def _shown(evaluation: Evaluation) -> tuple[list[str], "np.ndarray[tuple[int, int], np.dtype[np.int64]]", np.ndarray]:
    """Classes on the picture, their counts, and for each the rows predicted as a class that is not on it."""
    counts_CC = np.array(evaluation.confusion, np.int64)
    keep = np.arange(len(counts_CC))
    if len(keep) > MAX_CLASSES:
        wrong_C = counts_CC.sum(axis=1) + counts_CC.sum(axis=0) - 2 * counts_CC.diagonal()
        keep = np.sort(np.argsort(-wrong_C, kind="stable")[:MAX_CLASSES])
    shown = counts_CC[np.ix_(keep, keep)]
    return [evaluation.labels[i] for i in keep], shown, counts_CC[keep].sum(axis=1) - shown.sum(axis=1)


def _name_classes(axes: Axes, labels: list[str]) -> None:
    names = [n if len(n) <= MAX_LABEL_CHARACTERS else n[: MAX_LABEL_CHARACTERS - 1] + "…" for n in labels]
    size = 9 if len(labels) <= MAX_NUMBERED_CLASSES else 7
    positions = range(len(labels))
    # A label such as `$5 off` is no formula.
    axes.set_xticks(positions, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(positions, names, fontsize=size, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")


def _write_counts(axes: Axes, counts_CC: np.ndarray, shares_CC: np.ndarray) -> None:
    size = 10 if len(counts_CC) <= 10 else 6
    for row, column in np.argwhere(counts_CC > 0):
        ink = "white" if shares_CC[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts_CC[row, column]), ha="center", va="center", color=ink, fontsize=size)


def to_svg(figure: Figure) -> str:
    """The picture as inline SVG."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Text is drawn by the reader's browser, which has the glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # Inside HTML the XML declaration and doctype are noise.
    return text[text.index("<svg") :]
