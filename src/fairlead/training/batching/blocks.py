"""Blocks of a stream of tokens, as the rows that a language model is trained and validated on.

A block has `size` tokens, of which all but the first are predicted; the next begins with its last one, so that every
token is predicted once. In training the blocks of each epoch begin at a place drawn from (seed, epoch), and no token
stays at a block's beginning, where it is predicted from little. Row i of epoch e has the number e * num_rows + i.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairlead.formats import tokens
from fairlead.formats.dataset import TRAIN
from fairlead.formats.tokens import TokenArrays, TokensManifest, TokenSplit
from fairlead.names import LANGUAGE_MODELING
from fairlead.training.config import TrainConfig

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Blocks(TokenArrays):
    """A split in blocks of one size; in one epoch of all its tokens the last block may be shorter."""

    size: int
    """Tokens of a block."""
    summary: TokenSplit
    """What tokenize counted."""
    epochs: int = 1
    """Epochs whose rows have numbers."""
    seed: int | None = None
    """Seed of the places where epochs begin; None: at the first token, up to the last."""

    @property
    def by_epoch(self) -> bool:
        """Whether the rows of each epoch have numbers of their own."""
        return self.seed is not None

    @property
    def num_rows(self) -> int:
        """Blocks of an epoch."""
        predicted = len(self.tokens) - 1
        if self.seed is None:
            return -(-predicted // self._stride)
        # So many that the last one ends within the tokens wherever the first begins, one at least.
        return max(1, (predicted - self._stride + 1) // self._stride)

    @property
    def lengths(self) -> Ints:
        """Tokens of each row."""
        if self.seed is not None:
            # A view of one number: rows of a thousand epochs take no memory.
            return np.broadcast_to(np.int64(self.size), (self.num_rows * self.epochs,))
        return self.spans(np.arange(self.num_rows))[1]

    def spans(self, rows: Ints) -> tuple[Ints, Ints]:
        """First token and number of tokens of each row."""
        epochs, places = np.divmod(rows, self.num_rows)
        starts = places * self._stride
        if self.seed is not None:
            for epoch in np.unique(epochs).tolist():
                starts[epochs == epoch] += self._shift(epoch)
        return starts, np.minimum(self.size, len(self.tokens) - starts)

    @property
    def _stride(self) -> int:
        return self.size - 1

    def _shift(self, epoch: int) -> int:
        """Where the first block of an epoch begins."""
        left = len(self.tokens) - 1 - self.num_rows * self._stride
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed or 0, epoch, 1])))
        return int(generator.integers(0, min(self._stride, left + 1)))


def open_rows(folder: Path, manifest: TokensManifest, split: str, config: TrainConfig) -> TokenArrays:
    """The rows of a tokenized split that a run reads: texts, or blocks for a language model."""
    arrays = tokens.open_split(folder, manifest, split)
    if manifest.task != LANGUAGE_MODELING:
        return arrays
    summary, size = manifest.splits[split], manifest.max_length
    if split == TRAIN:
        return training_blocks(arrays, summary, size, config.epochs, config.seed)
    return all_blocks(arrays, summary, size)


def training_blocks(arrays: TokenArrays, summary: TokenSplit, size: int, epochs: int, seed: int) -> Blocks:
    """The blocks that are trained on."""
    return _blocks(arrays, summary, size, epochs, seed)


def all_blocks(arrays: TokenArrays, summary: TokenSplit, size: int) -> Blocks:
    """The blocks of one reading of the whole split, in order."""
    return _blocks(arrays, summary, size, 1, None)


def _blocks(arrays: TokenArrays, summary: TokenSplit, size: int, epochs: int, seed: int | None) -> Blocks:
    blocks = Blocks(arrays.tokens, arrays.offsets, arrays.labels, size, summary, epochs, seed)
    # There are none, and whoever gathers those of some rows finds a 0 for each.
    labels = np.broadcast_to(np.int32(0), (blocks.num_rows * epochs,))
    return Blocks(arrays.tokens, arrays.offsets, labels, size, summary, epochs, seed)
