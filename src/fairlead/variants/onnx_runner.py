"""An ONNX file, run by ONNX Runtime on the CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import onnxruntime

from fairlead.errors import IntegrityError
from fairlead.variants.batch import padded
from fairlead.variants.contract import EMBEDDING, LOGITS, Embeddings, Logits, declared_width

SILENT = 3
# Fused operators that take longer on one core than what they replace: of a MiniLM's batch of 8 texts of 45 tokens in 8
# bits 33.1 ms with them and 27.6 without (4 texts of 128: 56.1 and 43.2; fp32 71.5 and 63.0).
SLOWER_FUSED = ["SkipLayerNormFusion", "BiasGeluFusion", "GeluFusionL2"]


class OnnxRunner:
    """One session, which is made again when the number of threads changes: a session keeps its own.

    Any number of calls run in it at a time; with one thread each computes in its caller's.
    """

    device = "cpu"

    def __init__(self, path: Path, pad_token_id: int, threads: int) -> None:
        self._path = path
        self._pad_token_id = pad_token_id
        self._threads = threads
        self._session = _session(path, threads)
        self.embedding_size = declared_width({one.name: one.shape for one in self._session.get_outputs()})

    @classmethod
    def load(cls, path: Path, pad_token_id: int, threads: int) -> Self:
        """Load an ONNX file. Raises IntegrityError when it cannot be read as a model."""
        return cls(path, pad_token_id, threads)

    def run(self, token_ids: Sequence[Sequence[int]]) -> Logits:
        """Logits of one batch, shape (texts, outputs)."""
        logits: Logits = self._run([LOGITS], token_ids)[0]
        return logits

    def embed(self, token_ids: Sequence[Sequence[int]]) -> tuple[Logits, Embeddings]:
        """Logits and embeddings of one batch."""
        logits, embeddings = self._run([LOGITS, EMBEDDING], token_ids)
        return logits, embeddings

    def set_threads(self, threads: int, calls: int = 1) -> None:
        """Of this model's session."""
        if threads != self._threads:
            self._session, self._threads = _session(self._path, threads), threads

    def _run(self, outputs: list[str], token_ids: Sequence[Sequence[int]]) -> list[Any]:
        ids_BL, mask_BL = padded(token_ids, self._pad_token_id)
        found: list[Any] = self._session.run(outputs, {"input_ids": ids_BL, "attention_mask": mask_BL})
        return found


def _session(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SILENT
    # A waiting thread that spins takes its core from whoever serves requests beside the model.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A memory pattern is kept for each shape of input, and there are as many as batches.
    options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER_FUSED
        )
    # The runtime's exceptions have no tree of their own and change place between releases.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise IntegrityError(f"{path}: ONNX Runtime cannot read it ({reason}); optimize the version again") from error
