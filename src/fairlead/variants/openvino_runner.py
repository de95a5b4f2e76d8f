"""An ONNX file, run by OpenVINO on the CPU."""

import queue
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import openvino

from fairlead.errors import IntegrityError
from fairlead.variants.batch import padded
from fairlead.variants.contract import EMBEDDING, LOGITS, Embeddings, Logits, declared_width

# The arithmetic of what the file has in float32. What it has in 8 bits stays so; without a hint OpenVINO would
# take bfloat16 for the rest wherever the processor has it.
HINTS = {"fp32": "f32", "bf16": "bf16", "int8-static": "f32"}


# It makes code for every shape that it sees, 45 ms for each of a MiniLM: 300 texts of 66 shapes went at 47 a second of
# CPU for the first time and at 91 again; padded to multiples of 8, of 19 shapes, at 83 and 100.
LENGTH_STEP = 8
# Some architectures keep positions for themselves.
SPARE_POSITIONS = 2


class OpenVinoRunner:
    """One compiled model with a stream and a request for each call, compiled again when their numbers change."""

    device = "cpu"

    def __init__(self, path: Path, pad_token_id: int, precision: str, threads: int, positions: int = 0) -> None:
        self._pad_token_id = pad_token_id
        self._longest_padded = (positions - SPARE_POSITIONS) // LENGTH_STEP * LENGTH_STEP
        self._hint = HINTS[precision]
        self._threads, self._calls = threads, 1
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(path)
            self._requests = self._compile()
            self.embedding_size = declared_width(
                {
                    name: [size.get_length() if size.is_static else None for size in output.partial_shape]
                    for output in self._model.outputs
                    for name in output.names
                }
            )
        # OpenVINO raises RuntimeError for whatever is wrong with a file.
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise IntegrityError(f"{path}: OpenVINO cannot read it ({reason}); optimize the version again") from error

    @classmethod
    def load(cls, path: Path, pad_token_id: int, precision: str, threads: int, positions: int = 0) -> Self:
        """Load an ONNX file of a model that has so many positions; 0 where that is not known.

        Raises IntegrityError when it cannot be read as a model.
        """
        return cls(path, pad_token_id, precision, threads, positions)

    def run(self, token_ids: Sequence[Sequence[int]]) -> Logits:
        """Logits of one batch, shape (texts, outputs)."""
        (logits,) = self._infer([LOGITS], token_ids)
        return logits

    def embed(self, token_ids: Sequence[Sequence[int]]) -> tuple[Logits, Embeddings]:
        """Logits and embeddings of one batch."""
        logits, embeddings = self._infer([LOGITS, EMBEDDING], token_ids)
        return logits, embeddings

    def set_threads(self, threads: int, calls: int = 1) -> None:
        """Of this compiled model; a call beyond those waits for one to end."""
        if (threads, calls) != (self._threads, self._calls):
            self._threads, self._calls = threads, calls
            self._requests = self._compile()

    def _infer(self, outputs: Sequence[str], token_ids: Sequence[Sequence[int]]) -> list[Logits]:
        length = -(-max(map(len, token_ids)) // LENGTH_STEP) * LENGTH_STEP
        ids_BL, mask_BL = padded(token_ids, self._pad_token_id, min(length, self._longest_padded))
        requests = self._requests
        request = requests.get()
        try:
            results = request.infer({"input_ids": ids_BL, "attention_mask": mask_BL}, share_inputs=True)
            # The request's own memory, which its next batch overwrites.
            return [results[name].copy() for name in outputs]
        finally:
            requests.put(request)

    def _compile(self) -> "queue.SimpleQueue[Any]":
        """Its requests, each for one call at a time."""
        properties = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "INFERENCE_NUM_THREADS": self._threads * self._calls,
            "NUM_STREAMS": self._calls,
            "PERFORMANCE_HINT": "LATENCY" if self._calls == 1 else "THROUGHPUT",
            # Pinned threads of two models, or two workers, would share cores while others idle.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = self._core.compile_model(self._model, "CPU", properties)
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self._calls):
            requests.put(compiled.create_infer_request())
        return requests
