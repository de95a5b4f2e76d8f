"""Which examples a step sees, and how they are cut into what one forward pass takes.

Everything here is a pure function of (seed, epoch, step) and the lengths of the rows: never of the
number of processes nor of where a run was interrupted. Only which process computes a part depends on their number.

Shapes: N rows of a global batch, B rows of a micro-batch, T tokens of its longest row.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fairlead.errors import ConfigError
from fairlead.formats.tokens import TokenArrays
from fairlead.training.batching.buckets import Buckets, by_rows, by_tokens
from fairlead.training.config import TrainConfig

Rows = npt.NDArray[np.int64]

# Floating-point operations that a CPU core could have done while a micro-batch's few hundred kernels are
# launched, forward and backward: about 10 ms at 100 GFLOP/s. Padding a batch of 32 short texts to its longest
# costs a small encoder 3 to 4 times its useful work; cutting it in three costs three of these.
MICRO_BATCH_OVERHEAD = 1e9
# Rows whose order follows length where batches are of tokens and nothing else is set: 100 batches of 40 texts.
DEFAULT_WINDOW = 4096


@dataclass(frozen=True)
class Plan:
    """The steps of a run: a permutation of the rows an epoch, cut into global batches."""

    num_rows: int
    batch_size: int
    epochs: int
    max_steps: int | None
    seed: int
    by_epoch: bool = False
    """Whether the rows of each epoch have numbers of their own: row i of epoch e is e * num_rows + i."""
    buckets: Buckets | None = None
    """Batches of texts of about one length, in place of random ones of `batch_size`."""

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch; the last may be smaller, so that every row is seen."""
        if self.buckets:
            return self.buckets.num_batches
        return -(-self.num_rows // self.batch_size)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run; they are counted from 1."""
        return min(self.epochs * self.steps_per_epoch, self.max_steps or self.epochs * self.steps_per_epoch)

    def rows(self, step: int) -> Rows:
        """The rows of the global batch of `step`, shape (N,). Costs one permutation an epoch, at any depth."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if self.buckets:
            return self.buckets.rows(self.seed, epoch, position)
        start = position * self.batch_size
        rows = _permutation(self.seed, epoch, self.num_rows)[start : start + self.batch_size]
        return rows + epoch * self.num_rows if self.by_epoch else rows

    def num_tokens(self, lengths: npt.NDArray[np.int64], steps: int) -> int:
        """Tokens, padding not counted, that the first `steps` steps train on."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        last = sum(int(lengths[self.rows(epochs * self.steps_per_epoch + step)].sum()) for step in range(1, rest + 1))
        return epochs * int(lengths[: self.num_rows].sum()) + last


def make_plan(config: TrainConfig, train: TokenArrays) -> Plan:
    """The steps that the settings ask for. Raises ConfigError for batches by length of texts that all have one."""
    buckets = None
    if config.batch_tokens or config.shuffle_window:
        if train.by_epoch:
            raise ConfigError(
                "training.batch_tokens: a language model's texts all have one length; set training.batch_size instead"
            )
        window = DEFAULT_WINDOW if config.shuffle_window is None else config.shuffle_window
        if config.batch_tokens:
            buckets = by_tokens(train.lengths, config.batch_tokens, window)
        else:
            buckets = by_rows(train.lengths, config.batch_size, window)
    sizes = (train.num_rows, config.batch_size, config.epochs, config.max_steps, config.seed)
    return Plan(*sizes, by_epoch=train.by_epoch, buckets=buckets)


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_rows: int) -> Rows:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    return generator.permutation(num_rows)


def overhead_tokens(num_parameters: int) -> int:
    """What one more micro-batch costs, in tokens of a model with that many weights besides its embeddings.

    A token costs 6 operations a weight, forward and backward (Kaplan et al. 2020, section 2.1).
    """
    return round(MICRO_BATCH_OVERHEAD / (6 * max(1, num_parameters)))


def micro_batches(rows: Rows, lengths: npt.NDArray[np.int64], token_budget: int, overhead: int = 0) -> list[Rows]:
    """Cut `rows` into micro-batches of at most `token_budget` tokens, padding included, longest first.

    Rows are sorted by length, and cut where the sum of computed tokens and of `overhead` tokens for
    each micro-batch is least; rows that are cut for the budget go in pieces of about one size. A row longer than it
    goes alone.
    """
    by_length = rows[np.argsort(-lengths[rows], kind="stable")]
    pieces = []
    for group in np.split(by_length, _cuts(lengths[by_length], token_budget, overhead)):
        longest = max(1, int(lengths[group[0]]))
        pieces += np.array_split(group, -(-len(group) // max(1, token_budget // longest)))
    return pieces


def _cuts(descending: npt.NDArray[np.int64], token_budget: int, overhead: int) -> list[int]:
    """Where to cut rows of these lengths: the shortest path over the places where the length changes."""
    starts = np.flatnonzero(np.diff(descending, prepend=-1))
    longest = np.maximum(1, descending[starts])
    least, came_from = np.zeros(len(starts) + 1), [0] * (len(starts) + 1)
    for index, end in enumerate([*starts[1:], len(descending)], start=1):
        num_rows = end - starts[:index]
        num_pieces = -(-num_rows // np.maximum(1, token_budget // longest[:index]))
        cost = least[:index] + num_rows * longest[:index] + num_pieces * overhead
        came_from[index] = int(cost.argmin())
        least[index] = cost[came_from[index]]
    cuts, index = [], len(starts)
    while index := came_from[index]:
        cuts.append(int(starts[index]))
    return cuts[::-1]


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes."""

    input_ids_BT: torch.Tensor
    attention_mask_BT: torch.Tensor
    labels_B: torch.Tensor
    """As the tokens have them: class ids (B,), numbers (B,), or for multi-label data (B, C)."""

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on `device`."""
        return MicroBatch(self.input_ids_BT.to(device), self.attention_mask_BT.to(device), self.labels_B.to(device))


def share_out(sizes: Sequence[int], world_size: int) -> list[list[int]]:
    """The indices of `sizes` for each of `world_size` processes: the largest first, each to the least loaded.

    (Graham 1969: at most a third more work on one process than the best division has.)
    """
    loads, shares = [0] * world_size, [[] for _ in range(world_size)]  # type: tuple[list[int], list[list[int]]]
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        lightest = min(range(world_size), key=loads.__getitem__)
        loads[lightest] += sizes[index]
        shares[lightest].append(index)
    return [sorted(share) for share in shares]


def packs(indices: Sequence[int], sizes: Sequence[int], budget: int) -> list[list[int]]:
    """`indices` in packs of neighbours whose sizes sum to `budget` at most; a larger one goes alone."""
    found: list[list[int]] = []
    room = 0
    for index in indices:
        room -= sizes[index]
        if room < 0:
            found.append([])
            room = budget - sizes[index]
        found[-1].append(index)
    return found


def collate(arrays: TokenArrays, rows: Rows | Sequence[int], pad_token_id: int) -> MicroBatch:
    """Gather `rows` into one micro-batch, padded on the right to the longest of them."""
    rows = np.asarray(rows)
    starts, lengths = arrays.spans(rows)
    places = np.arange(lengths.max())
    mask = places[None, :] < lengths[:, None]
    # One gather for all rows; what lies at padding is read from the row's start and overwritten.
    input_ids = arrays.tokens[starts[:, None] + np.where(mask, places[None, :], 0)].astype(np.int64)
    input_ids[~mask] = pad_token_id
    mask_BT = torch.from_numpy(mask.astype(np.int64))
    return MicroBatch(torch.from_numpy(input_ids), mask_BT, gather_labels(arrays, rows))


def gather_labels(arrays: TokenArrays, rows: Rows) -> torch.Tensor:
    """The labels of `rows`."""
    labels = np.array(arrays.labels[rows])
    # Class ids as torch's losses take them.
    return torch.from_numpy(labels.astype(np.int64) if labels.dtype == np.int32 else labels)


def random_state(seed: int, step: int, micro_batch: int) -> int:
    """The seed of dropout in one micro-batch, so that no random state has to be carried over.

    The same at any number of processes, and a resumed run needs nothing but its step.
    """
    state = np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
