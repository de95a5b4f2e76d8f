"""A batch of token ids as the rectangle that runtimes take.

Tensors are named by shape: B texts, L tokens of the longest among them.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


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
