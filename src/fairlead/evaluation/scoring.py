"""Runs a classifier over tokenized rows.

Shapes: N rows, B rows of a batch, T tokens of the batch's longest row, C classes.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fairlead.errors import DataError
from fairlead.events import Progress
from fairlead.formats.tokens import TokenArrays

# Padding included. Past this a CPU's caches gain nothing; a row longer than it is a batch of its own.
TOKENS_PER_BATCH = 8192


def score(
    model: nn.Module, arrays: TokenArrays, pad_token_id: int, what: str, tokens_per_batch: int = TOKENS_PER_BATCH
) -> npt.NDArray[np.float32]:
    """Logits of every row, shape (N, C), in the rows' own order, computed in float32.

    Rows are batched by length so that little is padding. Raises DataError when a logit is not a number.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).float().eval()
    progress = Progress("evaluate", f"scoring {what}", arrays.num_rows, "rows")
    pieces, order = [], []
    with torch.inference_mode():
        for rows in batches(arrays.lengths, tokens_per_batch):
            ids_BT, mask_BT = pad(arrays, rows, pad_token_id)
            logits_BC = model(input_ids=ids_BT.to(device), attention_mask=mask_BT.to(device)).logits
            pieces.append(logits_BC.float().cpu().numpy())
            order.append(rows)
            progress.advance(len(rows))
    logits_NC = np.empty((arrays.num_rows, pieces[0].shape[1]), np.float32)
    logits_NC[np.concatenate(order)] = np.concatenate(pieces)
    if not np.isfinite(logits_NC).all():
        raise DataError(f"evaluate: the model's output on {what} is not a number; train with a lower learning rate")
    return logits_NC


def batches(lengths: npt.NDArray[np.int64], tokens_per_batch: int) -> Iterator[npt.NDArray[np.int64]]:
    """Row indices by falling length, in batches of at most `tokens_per_batch` padded tokens (at least one row)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        # The first row is the longest: it sets the width. Longest first, so that too large fails at once.
        count = max(1, tokens_per_batch // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count


def pad(arrays: TokenArrays, rows: npt.NDArray[np.int64], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of some rows, each of shape (B, T)."""
    lengths = arrays.lengths[rows]
    width = max(1, int(lengths.max()))
    ids_BT = np.full((len(rows), width), pad_token_id, np.int64)
    # A row without a token attends to one pad token: attention over nothing is not a number.
    mask_BT = (np.arange(width) < np.maximum(lengths, 1)[:, None]).astype(np.int64)
    for i, row in enumerate(rows):
        ids_BT[i, : lengths[i]] = arrays.row(int(row))
    return torch.from_numpy(ids_BT), torch.from_numpy(mask_BT)
