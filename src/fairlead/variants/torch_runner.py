"""The registered weights, run by torch.

Tensors are named by shape: B texts of a batch, L tokens of the longest among them, T tokens of all, C outputs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from fairlead.training.models.building import load_classifier
from fairlead.variants.batch import padded
from fairlead.variants.contract import Logits

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRunner:
    """A padded forward pass, on the GPU where there is one unless a device is named; all in one type."""

    def __init__(self, model: nn.Module, pad_token_id: int, precision: str = "fp32", device: str | None = None) -> None:
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.device = self._device.type
        self._model = model.to(self._device, DTYPES[precision]).eval()
        self._pad_token_id = pad_token_id

    @classmethod
    def load(cls, folder: Path, pad_token_id: int, precision: str = "fp32", device: str | None = None) -> Self:
        """Load from a folder of the Hugging Face layout; raises as `load_classifier`."""
        return cls(load_classifier(folder), pad_token_id, precision, device)

    def run(self, token_ids: Sequence[Sequence[int]]) -> Logits:
        """Logits of one batch, shape (B, C)."""
        ids_BL, mask_BL = (torch.from_numpy(array) for array in padded(token_ids, self._pad_token_id))
        with torch.inference_mode():
            logits_BC = self._model(
                input_ids=ids_BL.to(self._device), attention_mask=mask_BL.to(self._device)
            ).logits.float()
        logits: Logits = np.ascontiguousarray(logits_BC.cpu().numpy())
        return logits

    def set_threads(self, threads: int, calls: int = 1) -> None:
        """Of torch, for what this thread and new ones compute; any number of calls run at a time."""
        torch.set_num_threads(threads)
