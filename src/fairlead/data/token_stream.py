"""Writes a split of documents as one stream of token ids (formats.tokens).

A document follows the token that ends the one before; so does the first, and a split that begins within a document,
so that every character is predicted from something and the loss of a split divides by all of its characters.
"""

from array import array
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.events import Progress
from fairlead.formats import dataset
from fairlead.formats.dataset import CONTINUES
from fairlead.formats.digests import of_file
from fairlead.formats.tokens import TokenSplit, split_files

PARTS_PER_BATCH = 16


@dataclass
class StreamWriter:
    """Writes whole splits with one tokenizer."""

    tokenizer: Any
    end_id: int
    unknown_id: int | None
    dtype: "np.dtype[Any]"

    def write_split(self, data: Path, output: Path, split: str, progress: Progress) -> TokenSplit:
        """Write the files of a split and return its summary."""
        files, counts = split_files(output, split), _Counts()
        with ExitStack() as stack:
            writers = {kind: stack.enter_context(path.open("wb")) for kind, path in files.items()}
            batch: list[tuple[str, str]] = []
            for row in dataset.read_rows(data, split):
                batch.append(row)
                if len(batch) == PARTS_PER_BATCH:
                    self._write(batch, writers["tokens"], counts)
                    progress.advance(len(batch), note=split)
                    batch = []
            self._write(batch, writers["tokens"], counts)
            progress.advance(len(batch), note=split)
            offsets = np.array([*counts.starts, counts.tokens], "<i8")
            writers["offsets"].write(offsets.tobytes())
        return TokenSplit(
            num_rows=len(counts.starts),
            num_tokens=counts.tokens,
            digests={kind: of_file(path) for kind, path in files.items()},
            length_quantiles={},
            truncated_share=0.0,
            unknown_token_share=counts.unknown / counts.tokens,
            num_characters=counts.characters,
            num_bytes=counts.bytes,
        )

    def _write(self, batch: list[tuple[str, str]], file: BufferedWriter, counts: "_Counts") -> None:
        encodings = self.tokenizer.encode_batch_fast([text for text, _ in batch], add_special_tokens=False)
        for (text, label), encoding in zip(batch, encodings, strict=True):
            ids = encoding.ids
            if label != CONTINUES or not counts.starts:
                counts.starts.append(counts.tokens)
                ids = [self.end_id, *ids]
            tokens = np.asarray(ids, self.dtype)
            file.write(tokens.astype(self.dtype.newbyteorder("<")).tobytes())
            counts.tokens += len(tokens)
            counts.characters += len(text)
            counts.bytes += len(text.encode())
            if self.unknown_id is not None and self.unknown_id != self.end_id:
                counts.unknown += int((tokens == self.unknown_id).sum())


@dataclass
class _Counts:
    starts: "array[int]" = field(default_factory=lambda: array("q"))
    """The token at which each document begins."""
    tokens: int = 0
    characters: int = 0
    bytes: int = 0
    unknown: int = 0
