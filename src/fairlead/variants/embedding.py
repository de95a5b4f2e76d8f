"""The vector of a text that a classifier's head reads: its encoder's last hidden states, pooled as the model pools.

    mean    of the text's tokens: models that say so in `classifier_pooling` (ModernBERT)
    last    of the text's tokens: decoders, whose head is called `score` (Llama, GPT-2, OPT)
    first   all others, as the BERT family reads it; with mean pooling added (training/models/pooling.py) it holds the
            mean that the pooling layer writes there

Tensors are named by shape: B texts, L tokens of the longest among them, H the encoder's width, C outputs.
"""

import threading
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

PoolingName = Literal["mean", "first", "last"]


class WithEmbedding(nn.Module):
    """A classifier of transformers as a function of two tensors to two: logits (B, C) and embeddings (B, H)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._pool = POOLS[pooling_of(model)]

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both in one pass; padding is on the right."""
        kept: list[torch.Tensor] = []
        own = threading.get_ident()

        def keep(module: nn.Module, given: Any, output: Any) -> None:
            # Another thread may run the same model for a batch of its own.
            if threading.get_ident() == own:
                kept.append(output[0])

        hook = self.model.base_model.register_forward_hook(keep)
        try:
            logits_BC: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        finally:
            hook.remove()
        return logits_BC, self._pool(kept[0], attention_mask)


def pooling_of(model: Any) -> PoolingName:
    """What of a text's hidden states the head of a classifier reads."""
    if getattr(model.config, "classifier_pooling", None) == "mean":
        return "mean"
    return "last" if hasattr(model, "score") else "first"


def width_of(model: Any) -> int:
    """H; 0 of a model that does not say."""
    return int(getattr(model.config, "hidden_size", 0))


def _mean(hidden_BLH: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
    # As ModernBERT writes it, so that a graph computes it once for both.
    return (hidden_BLH * mask_BL.unsqueeze(-1)).sum(dim=1) / mask_BL.sum(dim=1, keepdim=True)


def _first(hidden_BLH: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
    return hidden_BLH[:, 0]


def _last(hidden_BLH: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
    at_B11 = (mask_BL.sum(dim=1) - 1)[:, None, None]
    return hidden_BLH.gather(1, at_B11.expand(-1, 1, hidden_BLH.shape[-1]))[:, 0]


POOLS: dict[PoolingName, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean": _mean,
    "first": _first,
    "last": _last,
}
