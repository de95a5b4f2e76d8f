"""The engine: a verified model version in one variant, which answers texts with labels and probabilities.

It knows no server, no protocol and no queue.
"""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from fairlead.errors import ConfigError, IntegrityError
from fairlead.formats.model import ModelManifest, verify
from fairlead.inference.answers import Answer, Embedded, answers_of
from fairlead.inference.jobs import TokenIds
from fairlead.names import MULTI_LABEL, REGRESSION
from fairlead.training.models.outputs import VALUE
from fairlead.variants.batch import BATCH_TOKENS, by_length
from fairlead.variants.contract import Logits, Runner
from fairlead.variants.opening import open_runner, variant_to_serve


class Engine:
    """A loaded model version. `predict` may be called from any thread."""

    def __init__(self, manifest: ModelManifest, variant: str, runner: Runner, tokenizer: Any) -> None:
        """Callers use `load`, which verifies the files that these come from."""
        self.manifest = manifest
        self.variant = variant
        self.runner = runner
        self._answer = answers_of(manifest)
        self._temperature = manifest.optimization.temperature if manifest.optimization else 1.0
        self._tokenizer = tokenizer
        # Tokenizers keep their truncation setting inside and refuse to be used by two threads while it is changed.
        self._tokenizing = threading.Lock()
        self._encode = _encoder(tokenizer, manifest.training.max_length)

    @classmethod
    def load(cls, folder: Path, variant: str | None = None) -> Self:
        """Load a version after the digest of every file in `folder` was checked.

        `variant` is one of the version's, by default the one that its manifest chose. Raises NotFound when
        `folder` holds no version, IntegrityError when a file differs from the manifest or the model's
        classes are not the manifest's, ConfigError when it has no such variant.
        """
        manifest = verify(folder)
        if manifest.training.writes_text:
            raise ConfigError(
                f"{manifest.name}: it is a language model, which labels no texts; "
                f"continue a prompt with fairlead predict {manifest.project} --prompt ..."
            )
        _check_classes(folder, manifest)
        tokenizer = _load_tokenizer(folder)
        name = variant or variant_to_serve(manifest)
        runner = open_runner(folder, manifest, name, tokenizer.pad_token_id or 0)
        return cls(manifest, name, runner, tokenizer)

    @property
    def num_token_ids(self) -> int:
        """Ids of tokens go from 0 to below this."""
        return len(self._tokenizer)

    @property
    def embedding_size(self) -> int:
        """Numbers of an embedding; 0 where the variant's file was made without them."""
        return self.runner.embedding_size

    def predict(self, texts: Sequence[str]) -> list[Answer]:
        """One answer a text, in order. Texts longer than the training's `max_length` tokens are cut there."""
        return self.answer(self.tokenize(texts))

    def answer(self, token_ids: Sequence[TokenIds]) -> list[Answer]:
        """One answer a text, in order, from the token ids of each."""
        answers: dict[int, Answer] = {}
        for indices in by_length([len(ids) for ids in token_ids], BATCH_TOKENS[self.runner.device]):
            answers.update(zip(indices, self.answer_batch([token_ids[i] for i in indices]), strict=True))
        return [answers[index] for index in range(len(token_ids))]

    def answer_batch(self, token_ids: Sequence[TokenIds]) -> list[Answer]:
        """The same in one forward pass."""
        logits_BC = self.runner.run(token_ids)
        return [self._answer(row) for row in self._activate(logits_BC).tolist()]

    def embed_batch(self, token_ids: Sequence[TokenIds]) -> list[Embedded]:
        """The same with the embedding of each text. The variant has an `embedding_size`."""
        logits_BC, embeddings_BH = self.runner.embed(token_ids)
        rows = zip(self._activate(logits_BC).tolist(), embeddings_BH, token_ids, strict=True)
        return [Embedded(self._answer(row), embedding, len(ids)) for row, embedding, ids in rows]

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text, `max_length` of the training at most."""
        if not texts:
            return []
        if self._encode is not None:
            return [encoding.ids for encoding in self._encode(list(texts))]
        with self._tokenizing:
            columns = self._tokenizer(list(texts), truncation=True, max_length=self.manifest.training.max_length)
        ids: list[TokenIds] = columns["input_ids"]
        return ids

    def _activate(self, logits_BC: Logits) -> Logits:
        """Probabilities, or the numbers themselves."""
        task = self.manifest.training.task
        if task == REGRESSION:
            return logits_BC
        scaled_BC = logits_BC / np.float32(self._temperature)
        if task == MULTI_LABEL:
            # Of two forms the one that cannot overflow.
            small_BC = np.exp(-np.abs(scaled_BC))
            sigmoid_BC: Logits = np.where(scaled_BC >= 0, 1 / (1 + small_BC), small_BC / (1 + small_BC))
            return sigmoid_BC
        exponents_BC = np.exp(scaled_BC - scaled_BC.max(axis=1, keepdims=True))
        probabilities_BC: Logits = exponents_BC / exponents_BC.sum(axis=1, keepdims=True)
        return probabilities_BC


def _encoder(tokenizer: Any, max_length: int) -> Callable[[list[str]], list[Any]] | None:
    """The Rust tokenizer inside, set once to cut at `max_length`; None where there is none.

    transformers' own call around it takes four times as long for a short text and sets the length at each call.
    """
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(inner, Tokenizer):
        return None
    inner = Tokenizer.from_str(inner.to_str())
    inner.no_padding()
    inner.enable_truncation(max_length, direction=tokenizer.truncation_side)
    encode: Callable[[list[str]], list[Any]] = inner.encode_batch_fast
    return encode


def _check_classes(folder: Path, manifest: ModelManifest) -> None:
    named = json.loads((folder / "config.json").read_text("utf-8")).get("id2label", {})
    if [named[str(index)] for index in range(len(named))] != (manifest.labels or [VALUE]):
        raise IntegrityError(
            f"{folder}: config.json and fairlead.json name different classes; register the model again"
        )


def _load_tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # A damaged tokenizer.json surfaces as a bare Exception of the Rust library.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise IntegrityError(f"{folder}: its tokenizer cannot be read ({reason}); register the model again") from error
