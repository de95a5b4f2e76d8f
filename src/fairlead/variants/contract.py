"""What every variant can do, whatever runs it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


class Runner(Protocol):
    """A loaded classifier, regression or multi-label model. Calls may come from several threads at a time."""

    device: str
    """What computes: `cpu` or `cuda`."""

    def run(self, token_ids: Sequence[Sequence[int]]) -> Logits:
        """Logits of one batch in its order, shape (texts, outputs). Every text has one token at least."""
        ...

    def set_threads(self, threads: int, calls: int = 1) -> None:
        """Use so many threads of this process for one call, and be ready for so many calls at a time; 1 or more.

        All calls share one copy of the weights. Torch keeps the number for the calling thread.
        """
        ...
