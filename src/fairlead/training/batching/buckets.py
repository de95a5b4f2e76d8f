"""Global batches of texts of about one length, by number of texts or by tokens.

An epoch is a permutation of the rows; inside windows of it the rows are sorted by length, up in one window and down
in the next, so that a batch over their border is of one length too; then the rows are cut into batches, and the
batches are put in random order. A pure function of seed, epoch and lengths, made once an epoch: a run that is
resumed in it finds its place at once.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

# What a permutation of batches is drawn from, beside seed and epoch: another than the rows' own.
BATCHES = 1


@dataclass(frozen=True, eq=False)
class Buckets:
    """Rows of these `lengths`, grouped inside `window` rows; `num_batches` an epoch of nearly equal tokens or rows."""

    lengths: Rows
    window: int
    num_batches: int
    by_tokens: bool

    def rows(self, seed: int, epoch: int, position: int) -> Rows:
        """The rows of a batch of an epoch, both counted from 0."""
        rows, bounds, order = self._epoch(seed, epoch)
        batch = int(order[position])
        return rows[bounds[batch] : bounds[batch + 1]]

    @functools.lru_cache(maxsize=2)  # noqa: B019 (one or two in the life of a process)
    def _epoch(self, seed: int, epoch: int) -> tuple[Rows, Rows, Rows]:
        shuffled = _generator(seed, epoch).permutation(len(self.lengths))
        window = np.arange(len(shuffled)) // max(1, self.window)
        lengths = self.lengths[shuffled]
        rows = shuffled[np.lexsort((np.where(window % 2, -lengths, lengths), window))] if self.window else shuffled
        return rows, self._bounds(rows), _generator(seed, epoch, BATCHES).permutation(self.num_batches)

    def _bounds(self, rows: Rows) -> Rows:
        """Where the batches begin, and the end of the last: a row belongs where its first token falls."""
        sizes = self.lengths[rows] if self.by_tokens else np.ones(len(rows), dtype=np.int64)
        starts = np.cumsum(sizes) - sizes
        batch = starts * self.num_batches // int(sizes.sum())
        return np.searchsorted(batch, np.arange(self.num_batches + 1))


def by_tokens(lengths: Rows, batch_tokens: int, window: int) -> Buckets:
    """Batches of about `batch_tokens` tokens: as many an epoch as that asks for, and none empty."""
    total = int(lengths.sum())
    num_batches = max(1, min(-(-total // batch_tokens), total // int(lengths.max())))
    return Buckets(lengths, window, num_batches, by_tokens=True)


def by_rows(lengths: Rows, batch_size: int, window: int) -> Buckets:
    """Batches of `batch_size` rows, or one less where they do not divide."""
    return Buckets(lengths, window, -(-len(lengths) // batch_size), by_tokens=False)


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
