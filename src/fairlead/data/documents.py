"""Reads documents for language modelling: a text file, a folder of them, or the text column of a table.

A text file is one document, read a block at a time whatever its size; a line of it that cannot be used (bytes that
do not decode, a NUL) is set aside and the document goes on after it. A row of a table is one document.

Documents come in parts of at most 65,536 characters, cut after a line where there is one, so that no document has to
fit into memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.data.config import DataConfig
from fairlead.data.encodings import BYTE_ORDER_MARKS, HEAD_BYTES, blocks_of, find_encoding
from fairlead.data.folder import find_folder_encoding, list_files
from fairlead.data.lines import read_blocks
from fairlead.data.reading import EXTENSIONS, Meter, open_source
from fairlead.data.rows import Rejected
from fairlead.errors import DataError, NotFound
from fairlead.names import CLASSIFICATION

PART_CHARACTERS = 1 << 16

EMPTY = "the text is empty"
BINARY = "a binary file"
NUL = "a NUL character"
UNDECODABLE = "bytes that do not decode"
TOO_LONG = "longer than data.max_text_bytes"


@dataclass(frozen=True)
class Part:
    """A document, or a part of it."""

    text: str
    first: bool
    """Whether a document begins here."""
    line: int
    """1-based line (row, for Parquet) of the source on which the part, or the row, begins."""
    source: str
    """The file."""


@dataclass
class Pieces:
    """What was read in one go."""

    parts: list[Part] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    num_accepted: int = 0
    """Lines of text files, or rows of tables."""


@dataclass
class Documents:
    """A source that is open."""

    format: str
    """text, folder, csv, tsv, jsonl or parquet."""
    notes: dict[str, Any]
    """Encoding and how it was found; header and quoting of a delimited file."""
    pieces: Iterator[Pieces]
    """What is in it; can be read once."""


def open_documents(path: Path, config: DataConfig, meter: Meter, where: str) -> Documents:
    """Open the file or folder at `path`, called `where` in messages.

    Raises NotFound when there is none and DataError when it is empty, binary or lacks the column.
    """
    if not path.exists():
        raise NotFound(f"{where}: there is no such file or folder; check the path")
    if path.is_dir():
        return _open_folder(path, config, meter, where)
    if config.format == "text" or (config.format == "auto" and path.suffix.lower() not in EXTENSIONS):
        return _open_text(path, config, meter, where)
    # Readers of tables want a label: the text stands for it, and is left.
    reading = open_source(path, config.model_copy(update={"label": config.text, "task": CLASSIFICATION}), meter, where)
    return Documents(reading.format, reading.notes, _from_rows(reading.batches, config.max_text_bytes))


def cut_parts(text: str) -> Iterator[str]:
    """Yield `text` in parts of at most PART_CHARACTERS, each cut after a line where it has one."""
    start = 0
    while len(text) - start > PART_CHARACTERS:
        end = text.rfind("\n", start, start + PART_CHARACTERS) + 1 or start + PART_CHARACTERS
        yield text[start:end]
        start = end
    yield text[start:]


def _open_text(path: Path, config: DataConfig, meter: Meter, where: str) -> Documents:
    if path.stat().st_size == 0:
        raise DataError(f"{where}: it is empty; give a file with text")
    encoding = find_encoding(config.encoding, blocks_of(path), where)
    notes = {"encoding": encoding.name, "encoding_from": encoding.how}
    return Documents("text", notes, _from_file(path, path.name, encoding.name, meter, where))


def _open_folder(path: Path, config: DataConfig, meter: Meter, where: str) -> Documents:
    files = list_files(path)
    if not files:
        raise DataError(f"{where}: it holds no file; put text files into it")
    tables = [table.relative_to(path).as_posix() for table in files if table.suffix.lower() in EXTENSIONS]
    if tables:
        raise DataError(f"{where}: it holds tables ({tables[0]}), not a text a file; name one of them as the source")
    encoding = find_folder_encoding(files, config.encoding, config.max_text_bytes, where)
    notes = {"encoding": encoding.name, "encoding_from": encoding.how}
    return Documents("folder", notes, _from_folder(path, files, encoding.name, meter, where))


def _from_folder(folder: Path, files: list[Path], encoding: str, meter: Meter, where: str) -> Iterator[Pieces]:
    for path in files:
        name = path.relative_to(folder).as_posix()
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if b"\0" in head and not _marked(head):
            yield Pieces(rejected=[Rejected(name, 1, BINARY)])
        else:
            yield from _from_file(path, name, _marked(head) or encoding, meter, where)


def _from_file(path: Path, name: str, encoding: str, meter: Meter, where: str) -> Iterator[Pieces]:
    """The parts of one file; one of white space alone is set aside."""
    line, first, held = 1, True, Pieces()
    for lines in read_blocks(path, encoding, meter, where):
        pieces = _take_lines(lines, name, line, first)
        line += len(lines)
        first = first and not pieces.parts
        pieces.parts = held.parts + pieces.parts
        if any(not part.text.isspace() for part in pieces.parts):
            yield pieces
            held = Pieces()
        else:
            yield Pieces(rejected=pieces.rejected)
            held = Pieces(pieces.parts, [], held.num_accepted + pieces.num_accepted)
    if first or (held.parts and held.parts[0].first):
        yield Pieces(rejected=[Rejected(name, 1, EMPTY)])
    elif held.parts:
        yield held


def _take_lines(lines: list[str], name: str, number: int, first: bool) -> Pieces:
    pieces = Pieces(num_accepted=len(lines))
    kept = lines
    if _character_problem("".join(lines)):
        kept = []
        for index, text in enumerate(lines):
            reason = _character_problem(text)
            if reason:
                pieces.rejected.append(Rejected(name, number + index, reason, excerpt=text))
            else:
                kept.append(text)
        pieces.num_accepted = len(kept)
    for text in cut_parts("".join(kept)):
        if text:
            pieces.parts.append(Part(text, first, number, name))
            first = False
        number += text.count("\n")
    return pieces


def _from_rows(batches: Iterable[Any], max_bytes: int) -> Iterator[Pieces]:
    for batch in batches:
        pieces = Pieces(rejected=list(batch.rejected))
        for text, line, source in zip(batch.texts, batch.lines, batch.sources, strict=True):
            reason = _character_problem(text) or _row_problem(text, max_bytes)
            if reason:
                pieces.rejected.append(Rejected(source, line, reason, excerpt=text))
                continue
            pieces.num_accepted += 1
            pieces.parts += [Part(part, not i, line, source) for i, part in enumerate(cut_parts(text))]
        pieces.rejected.sort(key=lambda row: row.line)
        yield pieces


def _row_problem(text: str, max_bytes: int) -> str:
    if not text.strip():
        return EMPTY
    return TOO_LONG if len(text) * 4 > max_bytes and len(text.encode()) > max_bytes else ""


def _character_problem(text: str) -> str:
    if "\0" in text:
        return NUL
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return UNDECODABLE
    return ""


def _marked(head: bytes) -> str | None:
    return next((name for mark, name in BYTE_ORDER_MARKS if head.startswith(mark)), None)
