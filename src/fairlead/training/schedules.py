"""The learning rate as a pure function of the step, so that a resumed run has no scheduler to restore."""

import math

from fairlead.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, num_steps: int) -> float:
    """The rate of `step`, counted from 1, of `num_steps`.

    It rises linearly over the first `warmup_share` of the steps and then falls towards 0. No step is
    spent at a rate of 0: the first has a share of the peak (without warm-up the peak itself), the last is
    one decrement above 0.
    """
    warmup_steps = math.ceil(config.warmup_share * num_steps)
    if step <= warmup_steps:
        return config.learning_rate * step / warmup_steps
    left = (num_steps - step + 1) / (num_steps - max(warmup_steps, 1) + 1)
    factor = {"linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left)), "constant": 1.0}[config.schedule]
    return config.learning_rate * factor
