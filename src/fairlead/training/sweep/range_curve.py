"""The learning-rate range test as numbers: which rates are tried, when to stop, which rate to take.

The rate grows by the same factor each step while the loss is noted (Smith, 2017, "Cyclical Learning Rates for
Training Neural Networks", section 3.3). At first nothing moves, then the loss falls, then it bursts.

    stop          where the mean of the losses so far (weights 0.9^age) is 4 x its least, or not a number
    smoothed      the losses averaged over their neighbours, by a Gaussian of 4 % of the steps: without delay
    minimum       the rate where smoothed is least
    steepest      the rate where smoothed falls most by the logarithm of the rate, before the minimum
    suggested     the lower of steepest and minimum / 10

At the minimum the loss is about to burst, so a tenth of it is the usual advice; steepest is where a step gains most.
The first tenth of the steps has too few neighbours to count, and a fall within the noise is none.
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
    minimum: float | None = None
    """Rate where the loss is least; None when it never falls."""
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
    if len(losses) < LEAST_STEPS or not _falls(np.array(losses), smoothed, first):
        return curve
    lowest = int(smoothed.argmin())
    slopes = np.gradient(smoothed, np.log(rates))
    steepest = rates[first + int(slopes[first : lowest + 1].argmin())]
    suggested = _round(min(steepest, rates[lowest] / 10))
    return curve.model_copy(update={"steepest": steepest, "minimum": rates[lowest], "suggested": suggested})


def _smooth(losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    steps = np.arange(len(losses))
    distance = (steps[:, None] - steps[None, :]) / max(1.0, WIDTH_SHARE * len(losses))
    weights = np.exp(-0.5 * distance**2)
    means: npt.NDArray[np.float64] = (weights @ losses) / weights.sum(axis=1)
    return means


def _falls(losses: npt.NDArray[np.float64], smoothed: npt.NDArray[np.float64], first: int) -> bool:
    """Whether the least of the smoothed losses is below their beginning by twice the error of such a mean."""
    lowest = int(smoothed.argmin())
    if lowest <= first:
        return False
    noise = float((losses - smoothed)[:lowest].std())
    # A Gaussian of width w averages over 2 sqrt(pi) w steps.
    averaged = 2 * math.sqrt(math.pi) * max(1.0, WIDTH_SHARE * len(losses))
    return bool(smoothed[first] - smoothed[lowest] > 2 * noise / math.sqrt(averaged))


def _round(rate: float) -> float:
    """Two digits: the test says no more."""
    return float(f"{rate:.1e}")
