"""An exponential moving average of the weights: what is validated and saved, while training goes on from its own.

    average_1 = w_1
    average_t = d_t average_{t-1} + (1 - d_t) w_t,   d_t = min(decay, (1 + t) / (10 + t))

w_t are the weights after step t. The growing d_t keeps a short run from averaging over its beginning
(TensorFlow's `ExponentialMovingAverage` with `num_updates`; Polyak and Juditsky, 1992, for averaging as such).

The averages are kept in the optimizer's state, beside its moments: a checkpoint carries them without knowing of them,
and a resumed run goes on bit for bit.
"""

import contextlib
from collections.abc import Iterator

import torch

from fairlead.training.models.headnorm import HeadNorms
from fairlead.training.updates.shards import local

AVERAGE = "average"


class WeightAverage:
    """The averages of what an optimizer trains, and of a head's statistics; does nothing without a decay."""

    def __init__(self, optimizer: torch.optim.Optimizer, norms: HeadNorms, decay: float | None) -> None:
        self._optimizer, self._norms, self._decay = optimizer, norms, decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after `step` into the averages."""
        if self._decay is None:
            return
        self._begin()
        weights, averages = zip(*self._pairs(), strict=True)
        torch._foreach_lerp_(averages, weights, 1 - decay_at(self._decay, step))

    def _begin(self) -> None:
        """Begin averages that are not there yet with what is averaged.

        Not before the first step: an optimizer begins its own state where it finds none.
        """
        fresh = [p for p in self._parameters() if AVERAGE not in self._optimizer.state.get(p, {})]
        for parameter in fresh:
            self._optimizer.state[parameter][AVERAGE] = parameter.detach().clone()
        for running, average in self._norms.averaged() if fresh else ():
            average.copy_(running)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Exchange weights and averages for a while."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Put the averages where the weights are and the weights where the averages are, bit for bit."""
        if self._decay is None:
            return
        # One weight at a time, so that no second copy of the model is needed.
        for weight, average in self._pairs():
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def _parameters(self) -> Iterator[torch.Tensor]:
        for group in self._optimizer.param_groups:
            yield from group["params"]

    def _pairs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for parameter in self._parameters():
            # Asking a parameter that has none for its state would give it an empty one.
            if AVERAGE in (state := self._optimizer.state.get(parameter, {})):
                yield local(parameter.data), local(state[AVERAGE])
        yield from self._norms.averaged()


def decay_at(decay: float, step: int) -> float:
    """The share of the old average that is kept at `step`, counted from 1."""
    return min(decay, (1 + step) / (10 + step))
