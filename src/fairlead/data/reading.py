"""Opens one source: tells its format, encoding and layout, then yields its rows in batches."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.data.config import DataConfig
from fairlead.data.delimited import find_layout, read_delimited
from fairlead.data.encodings import HEAD_BYTES, blocks_of, find_encoding, refuse_binary
from fairlead.data.folder import find_folder_encoding, list_texts, read_folder
from fairlead.data.jsonl import find_keys, read_jsonl
from fairlead.data.lines import Blocks, OnBytes, read_blocks
from fairlead.data.parquet import open_parquet, read_parquet
from fairlead.data.rows import Batch
from fairlead.errors import DataError, NotFound
from fairlead.events import Progress, track
from fairlead.formats.digests import PREFIX
from fairlead.names import MULTI_LABEL

STAGE = "ingest"
EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
DELIMITERS = {"csv": ",", "tsv": "\t"}


class Meter:
    """Sees every byte that is read: takes its SHA-256 and reports it."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._hash, self._advance = hashlib.sha256(), advance

    def __call__(self, block: bytes) -> None:
        """Take one block."""
        self._hash.update(block)
        self._advance(len(block))

    def digest(self) -> str:
        """SHA-256 of the bytes so far."""
        return PREFIX + self._hash.hexdigest()


@dataclass
class Reading:
    """A source that is open: what was found out about it, and its rows."""

    format: str
    """csv, tsv, jsonl, parquet or folder."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Encoding and how it was found; header and quoting of a delimited file."""
    batches: Iterator[Batch] = field(default_factory=lambda: iter(()))
    """The rows; can be read once."""


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def open_source(path: Path, config: DataConfig, meter: Meter, where: str) -> Reading:
    """Open the file or folder at `path`, called `where` in messages.

    Raises NotFound when there is none and DataError when it is empty, binary or lacks a column.
    """
    if not path.exists():
        raise NotFound(f"{where}: there is no such file or folder; check the path")
    kind = find_format(path, config.format, where)
    if kind == "folder":
        return _open_folder(path, config, meter, where)
    if path.stat().st_size == 0:
        raise DataError(f"{where}: it is empty; give a file with rows of text and label")
    if kind == "parquet":
        return _open_parquet(path, config, meter, where)
    encoding = find_encoding(config.encoding, _shown(blocks_of(path), _telling(path, "find the encoding")), where)
    notes: dict[str, Any] = {"encoding": encoding.name, "encoding_from": encoding.how}

    def reopen() -> Blocks:
        return read_blocks(path, encoding.name, _telling(path, "find the layout"), where)

    metered = read_blocks(path, encoding.name, meter, where)
    if kind == "jsonl":
        find_keys(reopen(), config.text, config.label, where)
        return Reading(
            kind, notes, read_jsonl(metered, config.text, config.label, path.name, lists=config.task == MULTI_LABEL)
        )
    layout = find_layout(reopen, DELIMITERS[kind], config.quoting, config.header, config.text, config.label, where)
    notes |= {"header": layout.header, "quoting": layout.quoting}
    return Reading(kind, notes, read_delimited(metered, layout, path.name))


def _telling(path: Path, what: str) -> OnBytes:
    """Reports a look through the file at `path` before it is read."""
    progress = Progress(STAGE, what, path.stat().st_size, "bytes")
    return lambda block: progress.advance(len(block))


def _shown(blocks: Iterator[bytes], on_bytes: OnBytes) -> Iterator[bytes]:
    for block in blocks:
        on_bytes(block)
        yield block


def find_format(path: Path, configured: str, where: str) -> str:
    """The format of a source: as configured, else by its extension, else by its content."""
    if configured == "folder" and not path.is_dir():
        raise DataError(f"{where}: it is a file, not a folder; correct data.format")
    if path.is_dir():
        if configured not in ("auto", "folder"):
            raise DataError(f"{where}: it is a folder, not a {configured} file; name the file or set data.format")
        return "folder"
    if configured != "auto":
        return configured
    return EXTENSIONS.get(path.suffix.lower()) or _by_content(path, where)


def _by_content(path: Path, where: str) -> str:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return "parquet"
    refuse_binary(head, where)
    lines = [line for line in head.replace(b"\0", b"").splitlines() if line.strip()]
    if lines and lines[0].lstrip(b"\xef\xbb\xbf\xff\xfe").startswith(b"{"):
        return "jsonl"
    for kind, delimiter in (("tsv", b"\t"), ("csv", b",")):
        # The last line may be cut off.
        if lines and all(delimiter in line for line in lines[: max(1, len(lines) - 1)][:20]):
            return kind
    if not lines:
        raise DataError(f"{where}: it is empty; give a file with rows of text and label")
    raise DataError(f"{where}: neither its name nor its content tells its format; set data.format")


def _open_parquet(path: Path, config: DataConfig, meter: Meter, where: str) -> Reading:
    text, label = open_parquet(path, config.text, config.label, where, config.task)
    for block in blocks_of(path):
        meter(block)
    return Reading("parquet", {}, read_parquet(path, text, label, path.name, where))


def _open_folder(path: Path, config: DataConfig, meter: Meter, where: str) -> Reading:
    paths = list_texts(path, where)
    tables = [table.relative_to(path).as_posix() for table in paths if table.suffix.lower() in EXTENSIONS]
    if tables:
        raise DataError(f"{where}: it holds tables ({tables[0]}), not a text a file; name one of them as the source")
    files = track(paths, STAGE, "find the encoding", len(paths), "files")
    encoding = find_folder_encoding(files, config.encoding, config.max_text_bytes, where)
    notes = {"encoding": encoding.name, "encoding_from": encoding.how}
    return Reading("folder", notes, read_folder(path, paths, encoding.name, config.max_text_bytes, meter))
