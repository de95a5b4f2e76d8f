"""A file's physical lines, decoded, in bounded memory; every byte read is shown to the caller."""

import codecs
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from fairlead.data.encodings import ESCAPE, HEAD_BYTES, blocks_of
from fairlead.errors import DataError

# A longer line is not a row of labelled text; holding it would take the memory that was promised away.
MAX_LINE_CHARACTERS = 64 << 20

OnBytes = Callable[[bytes], None]


Blocks = Iterator[list[str]]


def read_blocks(path: Path, encoding: str, on_bytes: OnBytes, where: str) -> Blocks:
    r"""Yield the lines with their ends, about 1 MiB of them at a time.

    A line ends with `\n`, or with `\r` in a file that has no `\n`. Bytes that do not decode become
    lone surrogates. Raises DataError for a line of more than 64 MiB.
    """
    newline = _newline(path)
    decoder = codecs.getincrementaldecoder(encoding)(ESCAPE)
    parts: list[str] = []
    for block in blocks_of(path):
        on_bytes(block)
        text = decoder.decode(block)
        cut = text.rfind(newline) + 1
        if cut:
            yield list(io.StringIO("".join(parts) + text[:cut], newline=newline))
            parts = []
        parts.append(text[cut:])
        if len(parts) > 1 and sum(map(len, parts)) > MAX_LINE_CHARACTERS:
            raise DataError(f"{where}: a line is longer than 64 MiB; it is no table of rows: check data.format")
    yield list(io.StringIO("".join(parts) + decoder.decode(b"", final=True), newline=newline))


def _newline(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16 * HEAD_BYTES)
    return "\r" if b"\r" in head and b"\n" not in head else "\n"
