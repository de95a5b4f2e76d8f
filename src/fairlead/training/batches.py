"""Which examples a step sees, and how they are cut into what one forward pass takes.

Everything here is a pure function of (seed, epoch, step) and the lengths of the rows: never of the
number of processes nor of where a run was interrupted. Process r of W takes micro-batches r::W.

Shapes: N rows of a global batch, B rows of a micro-batch, T tokens of its longest row.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fairlead.formats.tokens import TokenArrays

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """The steps of a run: a permutation of the rows an epoch, cut into global batches."""

    num_rows: int
    batch_size: int
    epochs: int
    max_steps: int | None
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch; the last may be smaller, so that every row is seen."""
        return -(-self.num_rows // self.batch_size)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run; they are counted from 1."""
        return min(self.epochs * self.steps_per_epoch, self.max_steps or self.epochs * self.steps_per_epoch)

    def rows(self, step: int) -> Rows:
        """The rows of the global batch of `step`, shape (N,). Costs one permutation an epoch, at any depth."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        start = position * self.batch_size
        return _permutation(self.seed, epoch, self.num_rows)[start : start + self.batch_size]


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_rows: int) -> Rows:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    return generator.permutation(num_rows)


def micro_batches(rows: Rows, lengths: npt.NDArray[np.int64], token_budget: int) -> list[Rows]:
    """Cut `rows` into micro-batches of at most `token_budget` tokens, padding included, longest first.

    Sorting by length first keeps the padding small. A row longer than the budget goes alone.
    """
    by_length = rows[np.argsort(-lengths[rows], kind="stable")]
    pieces, start = [], 0
    while start < len(by_length):
        longest = max(1, int(lengths[by_length[start]]))
        end = start + max(1, token_budget // longest)
        pieces.append(by_length[start:end])
        start = end
    return pieces


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes."""

    input_ids_BT: torch.Tensor
    attention_mask_BT: torch.Tensor
    labels_B: torch.Tensor

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on `device`."""
        return MicroBatch(self.input_ids_BT.to(device), self.attention_mask_BT.to(device), self.labels_B.to(device))


def collate(arrays: TokenArrays, rows: Rows | Sequence[int], pad_token_id: int) -> MicroBatch:
    """Gather `rows` into one micro-batch, padded on the right to the longest of them."""
    texts = [arrays.row(int(row)) for row in rows]
    lengths = np.array([len(text) for text in texts])
    input_ids = np.full((len(texts), int(lengths.max())), pad_token_id, dtype=np.int64)
    for index, text in enumerate(texts):
        input_ids[index, : len(text)] = text
    mask = np.arange(input_ids.shape[1])[None, :] < lengths[:, None]
    labels = np.asarray(arrays.labels[rows], dtype=np.int64)
    return MicroBatch(torch.from_numpy(input_ids), torch.from_numpy(mask.astype(np.int64)), torch.from_numpy(labels))


def random_state(seed: int, step: int, micro_batch: int) -> int:
    """The seed of dropout in one micro-batch, so that no random state has to be carried over.

    The same at any number of processes, and a resumed run needs nothing but its step.
    """
    state = np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
