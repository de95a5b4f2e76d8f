"""Which texts make a batch, and the batch as the rectangle of token ids that runtimes take.

Tensors are named by shape: B texts, L tokens of the longest among them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
# Tokens of one forward pass, padding included. On a CPU more than 1,024 leave the cache of a core: a MiniLM in 8 bits
# took 1.3 times as long a text with 4,096, in fp32 1.2 times.
BATCH_TOKENS = {"cpu": 1024, "cuda": 4096}


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices of texts of like length, so that little of a batch is padding; the longest first.

    A batch has `tokens` at most, padding included; a longer text is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(token_ids: Sequence[Sequence[int]], pad_token_id: int, length: int = 0) -> tuple[Ids, Ids]:
    """Ids and attention mask, both of shape (B, L); padding is on the right and 0 in the mask.

    L is at least `length`.
    """
    lengths_B = np.fromiter((len(row) for row in token_ids), np.int64, len(token_ids))
    mask_BL = np.arange(max(length, int(lengths_B.max())))[None, :] < lengths_B[:, None]
    ids_BL = np.full(mask_BL.shape, pad_token_id, np.int64)
    # Row after row, which is the order that a mask is filled in.
    ids_BL[mask_BL] = np.concatenate([np.asarray(row, np.int64) for row in token_ids])
    return ids_BL, mask_BL.astype(np.int64)
