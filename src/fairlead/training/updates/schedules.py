"""The learning rate as a pure function of the step, so that a resumed run has no scheduler to restore."""

import math

from fairlead.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, num_steps: int) -> float:
    """The rate of `step`, counted from 1, of `num_steps`.

    It rises linearly over the warm-up of w steps. Then, with the share `left` of the other steps:

        linear         left
        cosine         (1 - cos(pi left)) / 2        Loshchilov and Hutter, 2017, without restarts
        inverse_sqrt   sqrt(w / step)                Vaswani et al., 2017, section 5.3
        constant       1

    Linear and cosine fall to `final_rate_share` of the peak. No step is spent at a rate of 0: the first
    has a share of the peak (without warm-up the peak itself), the last is one decrement above the end.
    """
    warmup = warmup_steps(config, num_steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    return config.learning_rate * _decay(config, step, num_steps, warmup)


def warmup_steps(config: TrainConfig, num_steps: int) -> int:
    """Steps in which the rate rises."""
    return math.ceil(config.warmup_share * num_steps) if config.warmup_steps is None else config.warmup_steps


def _decay(config: TrainConfig, step: int, num_steps: int, warmup: int) -> float:
    """What is left of the peak at a step after the warm-up."""
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "inverse_sqrt":
        return math.sqrt(warmup / step)
    left = (num_steps - step + 1) / (num_steps - max(warmup, 1) + 1)
    factor = left if config.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))
    return config.final_rate_share + (1 - config.final_rate_share) * factor
