"""The registered weights, run by torch.

Tensors are named by shape: B texts of a batch, L tokens of the longest among them, T tokens of all, C outputs,
H the encoder's width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from fairlead.training.models.building import load_classifier
from fairlead.variants.batch import padded
from fairlead.variants.contract import Embeddings, Logits
from fairlead.variants.embedding import WithEmbedding, width_of

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRunner:
    """A padded forward pass, on the GPU where there is one unless a device is named; all in one type."""

    def __init__(self, model: nn.Module, pad_token_id: int, precision: str = "fp32", device: str | None = None) -> None:
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.device = self._device.type
        self._model = model.to(self._device, DTYPES[precision]).eval()
        self._with_embedding = WithEmbedding(self._model)
        self.embedding_size = width_of(model)
        self._pad_token_id = pad_token_id

    @classmethod
    def load(cls, folder: Path, pad_token_id: int, precision: str = "fp32", device: str | None = None) -> Self:
        """Load from a folder of the Hugging Face layout; raises as `load_classifier`."""
        return cls(load_classifier(folder), pad_token_id, precision, device)

    def run(self, token_ids: Sequence[Sequence[int]]) -> Logits:
        """Logits of one batch, shape (B, C)."""
        ids_BL, mask_BL = self._tensors(token_ids)
        with torch.inference_mode():
            return _array(self._model(input_ids=ids_BL, attention_mask=mask_BL).logits)

    def embed(self, token_ids: Sequence[Sequence[int]]) -> tuple[Logits, Embeddings]:
        """Logits and embeddings of one batch, shapes (B, C) and (B, H)."""
        with torch.inference_mode():
            logits_BC, embeddings_BH = self._with_embedding(*self._tensors(token_ids))
            return _array(logits_BC), _array(embeddings_BH)

    def set_threads(self, threads: int, calls: int = 1) -> None:
        """Of torch, for what this thread and new ones compute; any number of calls run at a time."""
        torch.set_num_threads(threads)

    def _tensors(self, token_ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        ids_BL, mask_BL = (torch.from_numpy(array) for array in padded(token_ids, self._pad_token_id))
        return ids_BL.to(self._device), mask_BL.to(self._device)


def _array(tensor: torch.Tensor) -> Logits:
    array: Logits = np.ascontiguousarray(tensor.float().cpu().numpy())
    return array
