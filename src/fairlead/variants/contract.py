"""What every variant can do, whatever runs it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Embeddings = npt.NDArray[np.float32]
# Outputs of a variant's file; the second as sentence encoders in ONNX call it.
LOGITS, EMBEDDING = "logits", "sentence_embedding"


def declared_width(shapes: Mapping[str, Sequence[Any]]) -> int:
    """Numbers of an embedding in a file with these outputs; 0 where it has none."""
    size = shapes[EMBEDDING][-1] if EMBEDDING in shapes else 0
    return size if isinstance(size, int) else 0


class Runner(Protocol):
    """A loaded classifier, regression or multi-label model. Calls may come from several threads at a time."""

    device: str
    """What computes: `cpu` or `cuda`."""
    embedding_size: int
    """Numbers of an embedding; 0 where its file was made without them."""

    def run(self, token_ids: Sequence[Sequence[int]]) -> Logits:
        """Logits of one batch in its order, shape (texts, outputs). Every text has one token at least."""
        ...

    def embed(self, token_ids: Sequence[Sequence[int]]) -> tuple[Logits, Embeddings]:
        """The same, and what the head reads of each text: (texts, `embedding_size`), see variants/embedding.py."""
        ...

    def set_threads(self, threads: int, calls: int = 1) -> None:
        """Use so many threads of this process for one call, and be ready for so many calls at a time; 1 or more.

        All calls share one copy of the weights. Torch keeps the number for the calling thread.
        """
        ...
