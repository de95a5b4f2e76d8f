"""Out of memory: the step is computed again in smaller micro-batches, with the same global batch.

Every process learns of it in the exchange that ends a step's backward passes, and all of them halve
`micro_batch_tokens` together: the step's loss and gradient are those of a run that was set so. The smaller
number stays for later steps and goes with the checkpoints.
"""

import gc
import sys
from collections.abc import Callable

import torch

from fairlead.errors import MemoryExceeded
from fairlead.training.batching.batches import Rows
from fairlead.training.updates.gradients import GradientExchange

# What the allocators of the CPU, of CUDA's libraries and of C++ say.
SIGNS = (
    *("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory"),
    *("bad_alloc", "bad allocation", "alloc_failed"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or not."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def release() -> None:
    """Give back what failed work still holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class MicroBatchBudget:
    """The tokens of a micro-batch that fit."""

    def __init__(self, tokens: int, exchange: GradientExchange | None) -> None:
        """`tokens` is the setting, or what a checkpoint says was found to fit.

        Without an `exchange` that a process could complete after a failure, a lack of memory ends the run.
        """
        self.tokens, self._exchange = tokens, exchange

    def attempt(self, backward: Callable[[], float]) -> tuple[float, bool]:
        """The loss of this process's backward passes, and whether they did fit.

        When they did not, this process still takes part in the exchange of gradients, which the
        others wait in; what comes of it is not used.
        """
        if self._exchange:
            self._exchange.begin()
        try:
            return backward(), True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self._exchange is None:
                raise MemoryExceeded(
                    f"train: memory ran out with micro-batches of {self.tokens:,} tokens, which are not cut further "
                    "while weights are sharded; lower training.micro_batch_tokens"
                ) from error
        self._exchange.complete()
        return 0.0, False

    def halve(self, step: int, rows: Rows, lengths: Rows, is_first: bool) -> None:
        """Halve the tokens after `rows` did not fit, the same in every process.

        Raises MemoryExceeded when the longest row was alone already: then no micro-batch can be smaller.
        """
        longest = int(rows[lengths[rows].argmax()])
        num_tokens, before = int(lengths[longest]), self.tokens
        if before <= num_tokens:
            raise MemoryExceeded(
                f"train: memory ran out at step {step} with one row of {num_tokens} tokens (row {longest} of 'train') "
                "alone; lower tokenization.max_length, take a smaller model or more memory"
            )
        self.tokens = before // 2
        # Above the whole batch a budget changes nothing.
        while self.tokens >= num_tokens * len(rows) and self.tokens > num_tokens:
            self.tokens //= 2
        if is_first:
            print(
                f"warning: train: memory ran out at step {step} with micro-batches of {before:,} tokens; it goes on "
                f"with {self.tokens:,} and the same batches (training.micro_batch_tokens)",
                file=sys.stderr,
                flush=True,
            )


def in_parts(rows: Rows, compute: Callable[[Rows], None]) -> None:
    """Compute `rows` at once, or in halves where memory runs out; for work that leaves results by row."""
    try:
        return compute(rows)
    except (RuntimeError, MemoryError) as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    release()
    middle = len(rows) // 2
    in_parts(rows[:middle], compute)
    return in_parts(rows[middle:], compute)
