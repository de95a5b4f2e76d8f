"""The engine: a verified model version that answers texts with labels and probabilities.

It knows no server and no protocol. Tensors are named by shape: B texts of a batch, L tokens of the
longest among them, C classes.
"""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import AutoTokenizer

from fairlead.errors import ConfigError, IntegrityError
from fairlead.formats.model import ModelManifest, verify
from fairlead.inference.answers import Answer, answers_of
from fairlead.names import MULTI_LABEL, REGRESSION
from fairlead.training.models.building import load_classifier
from fairlead.training.models.outputs import VALUE

# Tokens of one forward pass, padding included. 4,096 keeps the activations of a 6-layer encoder under
# 200 MB and is past the size from which a larger batch is no faster on a CPU.
BATCH_TOKENS = 4096

Encoding = dict[str, list[int]]


class Engine:
    """A loaded model version. `predict` may be called from any thread."""

    def __init__(self, manifest: ModelManifest, model: nn.Module, tokenizer: Any) -> None:
        """Callers use `load`, which verifies the files that these three come from."""
        self.manifest = manifest
        self._answer = answers_of(manifest)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self._device).eval()
        self._tokenizer = tokenizer
        # Tokenizers keep their truncation setting inside and refuse to be used by two threads at once.
        self._tokenizing = threading.Lock()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a version after the digest of every file in `folder` was checked.

        Raises NotFound when `folder` holds no version, IntegrityError when a file differs from the
        manifest or the model's classes are not the manifest's.
        """
        manifest = verify(folder)
        if manifest.training.writes_text:
            raise ConfigError(
                f"{manifest.name}: it is a language model, which labels no texts; "
                f"continue a prompt with fairlead predict {manifest.project} --prompt ..."
            )
        model = load_classifier(folder)
        config: Any = model.config
        if [config.id2label[index] for index in range(config.num_labels)] != (manifest.labels or [VALUE]):
            raise IntegrityError(
                f"{folder}: config.json and fairlead.json name different classes; register the model again"
            )
        return cls(manifest, model, _load_tokenizer(folder))

    def predict(self, texts: Sequence[str]) -> list[Answer]:
        """One answer a text, in order. Texts longer than the training's `max_length` tokens are cut there."""
        encodings = self._tokenize(texts)
        probabilities_by_index: dict[int, list[float]] = {}
        for indices in _batches([len(encoding["input_ids"]) for encoding in encodings]):
            probabilities_BC = self._forward([encodings[i] for i in indices])
            probabilities_by_index.update(zip(indices, probabilities_BC, strict=True))
        return [self._answer(probabilities_by_index[index]) for index in range(len(texts))]

    def _tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        if not texts:
            return []
        with self._tokenizing:
            columns = self._tokenizer(list(texts), truncation=True, max_length=self.manifest.training.max_length)
        return [{name: column[index] for name, column in columns.items()} for index in range(len(texts))]

    def _forward(self, encodings: list[Encoding]) -> list[list[float]]:
        tensors = {name: self._pad([encoding[name] for encoding in encodings], name) for name in encodings[0]}
        with torch.inference_mode():
            logits_BC = self._model(**tensors).logits
            rows: list[list[float]] = self._activate(logits_BC.float()).tolist()
        return rows

    def _activate(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """Probabilities, or the numbers themselves."""
        task = self.manifest.training.task
        if task == REGRESSION:
            return logits_BC
        return logits_BC.sigmoid() if task == MULTI_LABEL else logits_BC.softmax(dim=-1)

    def _pad(self, rows: list[list[int]], name: str) -> torch.Tensor:
        fill = (self._tokenizer.pad_token_id or 0) if name == "input_ids" else 0
        longest = max(len(row) for row in rows)
        padded_BL = [row + [fill] * (longest - len(row)) for row in rows]
        return torch.tensor(padded_BL, dtype=torch.long, device=self._device)


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Indices of texts of like length, so that little of a batch is padding; the longest first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _load_tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # A damaged tokenizer.json surfaces as a bare Exception of the Rust library.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise IntegrityError(f"{folder}: its tokenizer cannot be read ({reason}); register the model again") from error
