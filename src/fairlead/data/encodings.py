"""Which encoding a file of text has: configured, by its byte-order mark, UTF-8, or detected on a sample.

Nothing is repaired: a byte that does not decode becomes a lone surrogate (U+DC80 to U+DCFF), which
no valid text holds, and the row with it is set aside.
"""

import codecs
import difflib
import encodings.aliases
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import charset_normalizer

from fairlead.errors import ConfigError, DataError

BLOCK_BYTES = 1 << 20
# The start of a file in which a NUL byte means that it is not text (git looks at as much).
HEAD_BYTES = 8000
# Lines with bytes that are not UTF-8, as charset-normalizer needs them to tell encodings apart.
SAMPLE_BYTES = 64_000
ESCAPE = "fairlead-escape"
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MAGIC = (
    (b"PAR1", "a Parquet file; set data.format=parquet"),
    (b"\x1f\x8b", "gzip-compressed; decompress it first"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet); export it as CSV"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; decompress it first"),
    (b"BZh", "bzip2-compressed; decompress it first"),
    (b"\xfd7zXZ", "xz-compressed; decompress it first"),
    (b"%PDF", "a PDF document; extract its text first"),
    (b"SQLite format 3", "an SQLite database; export a table as CSV"),
)
_ESCAPED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Encoding:
    """An encoding and how it was found: `configured`, `byte-order mark`, `utf-8` or `detected`."""

    name: str
    how: str


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + max(byte, 0x80)) for byte in bad), error.end


codecs.register_error(ESCAPE, _escape)


def blocks_of(path: Path) -> Iterator[bytes]:
    """The file's bytes, 1 MiB at a time."""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def refuse_binary(head: bytes, where: str) -> None:
    """Raise DataError when the first bytes of a file show that it is not text."""
    for magic, what in MAGIC:
        if head.startswith(magic):
            raise DataError(f"{where}: it is not text but {what}")
    marked = any(head.startswith(mark) for mark, _ in BYTE_ORDER_MARKS)
    position = head[:HEAD_BYTES].find(b"\0")
    if position >= 0 and not marked:
        raise DataError(
            f"{where}: it is a binary file (NUL at byte {position}); give a text file, "
            "or set data.encoding when it is UTF-16 or UTF-32 without a byte-order mark"
        )


def find_encoding(configured: str, blocks: Iterable[bytes], where: str) -> Encoding:
    """The encoding of the text in `blocks` (its first block decides on a byte-order mark).

    `configured` is `data.encoding`. Raises ConfigError when Python does not know it and
    DataError when the text is binary or no encoding fits.
    """
    blocks = iter(blocks)
    first = next(blocks, b"")
    if configured != "auto":
        return Encoding(_configured(configured, first), "configured")
    refuse_binary(first, where)
    for mark, name in BYTE_ORDER_MARKS:
        if first.startswith(mark):
            return Encoding(name, "byte-order mark")
    return _survey(first, blocks, where)


def _configured(name: str, first: bytes) -> str:
    try:
        known = codecs.lookup(name)
        b"".decode(name)
    except LookupError as error:
        near = difflib.get_close_matches(name, sorted(set(encodings.aliases.aliases.values())), n=1)
        hint = f"did you mean {near[0]!r}" if near else "use a name that Python knows, such as utf-8 or cp1252"
        raise ConfigError(f"data.encoding: there is no encoding {name!r}; {hint}") from error
    if known.name == "utf-8" and first.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    return known.name


def _survey(first: bytes, rest: Iterable[bytes], where: str) -> Encoding:
    """Read the whole file: a file may be ASCII for a gigabyte before its first accent."""
    num_valid = num_invalid = 0
    sample = bytearray()
    for block in _whole_lines(first, rest):
        if block.isascii():
            continue
        text = block.decode("utf-8", ESCAPE)
        bad = len(_ESCAPED.findall(text))
        num_invalid += bad
        num_valid += len(block) - len(text)
        if bad and len(sample) < SAMPLE_BYTES:
            lines = (line for line in block.split(b"\n") if not line.isascii())
            sample += b"\n".join(lines)[: SAMPLE_BYTES - len(sample)] + b"\n"
    # A file of UTF-8 with a few broken rows stays UTF-8: those rows are set aside.
    if num_invalid <= num_valid:
        return Encoding("utf-8", "utf-8")
    match = charset_normalizer.from_bytes(bytes(sample)).best()
    if match is None:
        raise DataError(f"{where}: its encoding is not UTF-8 and was not recognised; set data.encoding")
    return Encoding(match.encoding, "detected")


def _whole_lines(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    """Cut blocks after their last newline, so that no character is cut in two."""
    left = first
    for block in rest:
        cut = left.rfind(b"\n") + 1 or len(left)
        yield left[:cut]
        left = left[cut:] + block
    if left:
        yield left
