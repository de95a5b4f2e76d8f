"""The learning-rate range test as numbers: which rates are tried, when to stop, which rate to take.

The rate grows by the same factor each step while the loss is noted (Smith, 2017, "Cyclical Learning Rates for
Training Neural Networks", section 3.3). At first nothing moves, then the loss falls, then it bursts.

    stop          where the mean of the losses so far (weights 0.9^age) is 4 x its least, or not a number
    smoothed      the losses averaged over their neighbours, by a Gaussian of 4 % of the steps: without delay
    least         the rate where smoothed is least
    edge          the highest rate whose smoothed is above the least by at most twice the error of such a difference
    suggested     edge / 3

On easy data the loss reaches its floor early and is least there by chance: what tells rates apart is where it leaves
the floor. The best rate is usually within a factor of two of the largest that does not diverge (Bengio, 2012,
"Practical Recommendations for Gradient-Based Training of Deep Architectures", section 3.1.1); Smith takes a third or
a fourth of that for the lower bound. Where the loss falls fastest is reported too: on easy data that says how soon
the model learns, not which rate is best. The first tenth of the steps has too few neighbours to count, and a fall
within the noise is none.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairlead.config import Config

MEMORY, DIVERGED = 0.9, 4.0
# Of all steps: the width of the average over neighbours, and the beginning that is left out.
WIDTH_SHARE, SKIPPED_SHARE = 0.04, 0.1
# Fewer steps give no slope: a test of as few says nothing.
LEAST_STEPS = 10
# A suggestion is the edge by this.
BELOW_EDGE = 3.0


class RangePoint(Config):
    """One step of the sweep."""

    rate: float
    """Learning rate of the step."""
    loss: float
    """Training loss of its global batch, before the step."""
    smoothed: float
    """Mean of the losses around it."""


class RangeCurve(Config):
    """A finished sweep."""

    points: list[RangePoint]
    """The steps, lowest rate first."""
    diverged_at: float | None
    """Rate at which the loss burst; None when it did not up to the highest."""
    steepest: float | None = None
    """Rate where the loss falls fastest; None when it never falls."""
    edge: float | None = None
    """Highest rate whose loss is the least but for noise; None when it never falls."""
    suggested: float | None = None
    """Rate to train with; None when the loss never falls."""


@dataclass
class RunningMean:
    """The mean of the losses so far, the latest weighing most: what tells while it runs that the loss has burst."""

    total: float = 0.0
    weight: float = 0.0
    least: float = math.inf

    def add(self, loss: float) -> float:
        """Take the next loss; the mean with it."""
        self.total = MEMORY * self.total + loss
        self.weight = MEMORY * self.weight + 1
        value = self.total / self.weight
        self.least = min(self.least, value)
        return value

    def has_burst(self, value: float) -> bool:
        """Whether the loss is lost."""
        return not math.isfinite(value) or value > DIVERGED * self.least


def rate_of(step: int, num_steps: int, lowest: float, highest: float) -> float:
    """The rate of `step`, counted from 1: `lowest` at first, `highest` at last, by equal factors."""
    return float(lowest * (highest / lowest) ** ((step - 1) / (num_steps - 1)))


def judge(rates: list[float], losses: list[float], diverged_at: float | None) -> RangeCurve:
    """The curve of the steps, with what it suggests."""
    smoothed = _smooth(np.array(losses))
    rows = zip(rates, losses, smoothed.tolist(), strict=True)
    points = [RangePoint(rate=rate, loss=loss, smoothed=mean) for rate, loss, mean in rows]
    curve = RangeCurve(points=points, diverged_at=diverged_at)
    first = math.ceil(SKIPPED_SHARE * len(losses))
    if len(losses) < LEAST_STEPS:
        return curve
    lowest, error = int(smoothed.argmin()), _error(np.array(losses), smoothed)
    if lowest <= first or smoothed[first] - smoothed[lowest] <= 2 * error:
        return curve
    steepest = first + int(np.gradient(smoothed, np.log(rates))[first : lowest + 1].argmin())
    edge = rates[int(np.flatnonzero(smoothed <= smoothed[lowest] + 2 * error)[-1])]
    found = {"steepest": rates[steepest], "edge": edge, "suggested": _round(edge / BELOW_EDGE)}
    return curve.model_copy(update=found)


def _smooth(losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    steps = np.arange(len(losses))
    distance = (steps[:, None] - steps[None, :]) / max(1.0, WIDTH_SHARE * len(losses))
    weights = np.exp(-0.5 * distance**2)
    means: npt.NDArray[np.float64] = (weights @ losses) / weights.sum(axis=1)
    return means


def _error(losses: npt.NDArray[np.float64], smoothed: npt.NDArray[np.float64]) -> float:
    """The standard error of the difference of two smoothed losses, by the noise before the least of them."""
    noise = float((losses - smoothed)[: int(smoothed.argmin()) + 1].std())
    # A Gaussian of width w averages over 2 sqrt(pi) w steps.
    averaged = 2 * math.sqrt(math.pi) * max(1.0, WIDTH_SHARE * len(losses))
    return noise * math.sqrt(2 / averaged)


def _round(rate: float) -> float:
    """Two digits: the test says no more."""
    return float(f"{rate:.1e}")
