"""Documents between the two passes of ingest: their parts on disk, a few numbers of each in memory."""

from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

from fairlead.data.documents import Part
from fairlead.data.keys import ENTRY, KeyFiles, normal_form
from fairlead.data.spool import SCHEMA
from fairlead.formats.dataset import CONTINUES

# Characters of the parts that wait to be written together.
BATCH_CHARACTERS = 4 << 20


class DocumentSpool:
    """Takes parts in; gives them back in the same order with the number of each one's document."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True)
        self.keys = KeyFiles(folder / "keys")
        self.num_characters = array("q")
        """Characters of each document."""
        self._salt = seed.to_bytes(8, "big")
        self._entries: list[tuple[int, int, int, int, int]] = []
        self._held: list[Part] = []
        self._held_characters = 0
        self._path = folder / "parts.arrow"
        self._writer = pa.ipc.new_stream(self._path, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4"))

    @property
    def num_documents(self) -> int:
        """Documents so far."""
        return len(self.num_characters)

    def add(self, parts: Iterable[Part]) -> None:
        """Add parts; one that does not begin a document goes on with the last."""
        for part in parts:
            if part.first:
                self._end_document()
                self._normal, self._exact = blake2b(digest_size=16, salt=self._salt), blake2b(digest_size=8)
                self.num_characters.append(0)
                self._has_words = False
            words = normal_form(part.text)
            if words:
                self._normal.update((" " if self._has_words else "").encode() + words.encode())
                self._has_words = True
            self._exact.update(part.text.encode())
            self.num_characters[-1] += len(part.text)
            self._held.append(part)
            self._held_characters += len(part.text)
            if self._held_characters >= BATCH_CHARACTERS:
                self._write()

    def finish(self) -> None:
        """End pass one."""
        self._end_document()
        self._append_entries()
        self._write()
        self._writer.close()
        self.keys.finish()

    def parts(self) -> Iterator[tuple[int, Part]]:
        """Yield every part and the number of its document."""
        document = -1
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                columns = (batch[name].to_pylist() for name in SCHEMA.names)
                for text, label, line, source in zip(*columns, strict=True):
                    document += label != CONTINUES
                    yield document, Part(text, label != CONTINUES, line, source)

    def _end_document(self) -> None:
        if not self.num_characters:
            return
        digest, exact = self._normal.digest(), int.from_bytes(self._exact.digest(), "big", signed=True)
        high, low = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
        self._entries.append((high, low, exact, 0, self.num_documents - 1))
        if len(self._entries) >= 8192:
            self._append_entries()

    def _append_entries(self) -> None:
        if self._entries:
            self.keys.append(np.array(self._entries, ENTRY))
            self._entries = []

    def _write(self) -> None:
        if self._held:
            self._writer.write_batch(to_batch(self._held))
            self._held, self._held_characters = [], 0


def to_batch(parts: list[Part]) -> pa.RecordBatch:
    """Parts as the rows of a data version."""
    labels = ["" if part.first else CONTINUES for part in parts]
    columns = [[part.text for part in parts], labels, [part.line for part in parts], [part.source for part in parts]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
