"""The picture of a learning-rate range test."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from fairlead.errors import ConfigError
from fairlead.training.sweep.range_curve import RangeCurve

BLUE, RED, GREY = "#2b6cb0", "#c53030", "#a0aec0"


def draw(curve: RangeCurve, path: Path) -> None:
    """Draw loss against learning rate, with the suggestion. Raises ConfigError for an extension nothing draws."""
    with matplotlib.rc_context({"font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        rates = [point.rate for point in curve.points]
        axes.plot(rates, [point.loss for point in curve.points], ".", color=GREY, markersize=4, label="loss of a step")
        axes.plot(rates, [point.smoothed for point in curve.points], color=BLUE, label="smoothed")
        if curve.suggested is not None:
            axes.axvline(curve.suggested, color=RED, linestyle="--", label=f"suggested: {curve.suggested:g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(path, dpi=150)
        except ValueError as error:
            raise ConfigError(f"{path}: nothing draws such a file; end its name in .png, .svg or .pdf") from error
