"""Causal language modelling: every token but a block's first is predicted from those before it.

    loss                 nats a predicted token, the mean over all of them
    perplexity           exp(loss)
    nats_per_character   nats of the whole split / its characters: comparable between tokenizers
    bits_per_byte        nats of the whole split / ln 2 / its bytes in UTF-8

Shapes: B blocks, T tokens of the longest, V tokens of the vocabulary.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from fairlead.formats.tokens import TokenSplit
from fairlead.training.batching.batches import MicroBatch

# No token has this number, as F.cross_entropy has it by default.
IGNORED = -100


def token_losses_BT(logits_BTV: torch.Tensor, batch: MicroBatch, label_smoothing: float = 0.0) -> torch.Tensor:
    """The loss of each predicted token in float32, shape (B, T - 1); 0 at padding."""
    targets_BT = batch.input_ids_BT[:, 1:].masked_fill(batch.attention_mask_BT[:, 1:] == 0, IGNORED)
    logits_BTV = logits_BTV[:, :-1].float()
    flat = F.cross_entropy(
        logits_BTV.flatten(0, 1),
        targets_BT.flatten(),
        reduction="none",
        label_smoothing=label_smoothing,
        ignore_index=IGNORED,
    )
    return flat.view_as(targets_BT)


def language_scores(nats_N: npt.NDArray[np.float64], num_predicted: int, split: TokenSplit) -> dict[str, float]:
    """The scores from the nats of each block and the tokens predicted in all of them."""
    total = float(nats_N.sum())
    loss = total / num_predicted
    # exp overflows float64 beyond 709; a loss there is a diverged run.
    scores = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    if split.num_characters and split.num_bytes:
        scores["nats_per_character"] = total / split.num_characters
        scores["bits_per_byte"] = total / math.log(2) / split.num_bytes
    return scores
