"""The registered weights, run by torch.

Tensors are named by shape: B texts of a batch, L tokens of the longest among them, C outputs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import nn

from fairlead.training.models.building import load_classifier
from fairlead.variants.contract import Logits


class TorchRunner:
    """A padded forward pass, on the GPU where there is one."""

    def __init__(self, model: nn.Module, pad_token_id: int) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self._device).eval()
        self._pad_token_id = pad_token_id

    @classmethod
    def load(cls, folder: Path, pad_token_id: int) -> Self:
        """Load from a folder of the Hugging Face layout; raises as `load_classifier`."""
        return cls(load_classifier(folder), pad_token_id)

    def run(self, token_ids: Sequence[Sequence[int]]) -> Logits:
        """Logits of one batch, shape (B, C)."""
        longest = max(len(row) for row in token_ids)
        ids_BL = torch.full((len(token_ids), longest), self._pad_token_id)
        mask_BL = torch.zeros((len(token_ids), longest), dtype=torch.long)
        for index, row in enumerate(token_ids):
            ids_BL[index, : len(row)] = torch.tensor(row)
            mask_BL[index, : len(row)] = 1
        with torch.inference_mode():
            logits_BC = self._model(
                input_ids=ids_BL.to(self._device), attention_mask=mask_BL.to(self._device)
            ).logits.float()
        logits: Logits = logits_BC.cpu().numpy()
        return logits

    def set_threads(self, threads: int) -> None:
        """Of torch, which has one number for the process."""
        torch.set_num_threads(threads)
