"""Reads CSV and TSV: quoted or not, with or without a header, every record with its physical line.

The csv module's strict mode takes records apart. What it refuses is set aside, and reading goes on
after it; a quote that never closes costs its own line, not the rest of the file.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fairlead.config import Config
from fairlead.data.columns import find_column, find_index
from fairlead.data.rows import Batch, Rejected
from fairlead.errors import DataError

# A quoted field that is still open after so many characters is taken for a quote that nobody closed.
MAX_FIELD_CHARACTERS = 16 << 20

UNCLOSED = "a quote opens here and is never closed"
AFTER_QUOTE = "text after a closing quote"
CARRIAGE_RETURN = "a carriage return outside quotes"
TOO_LONG = f"a field of more than {MAX_FIELD_CHARACTERS} characters"
FIELDS = "wrong number of fields"

Lines = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Malformed:
    """A record that could not be taken apart; its first `num_lines` lines are given up."""

    reason: str
    excerpt: str
    num_lines: int


class Layout(Config):
    """How a delimited file is laid out."""

    delimiter: str
    """Character between fields."""
    quoting: bool
    """Whether fields may be quoted."""
    header: bool
    """Whether the first record names the columns."""
    text: int
    """Index of the text."""
    label: int
    """Index of the label."""
    num_columns: int
    """Fields of every record."""


Record = tuple[int, "list[str] | Malformed"]


def records(lines: Iterator[str], delimiter: str, quoting: bool) -> Iterator[Record]:
    """Yield (line on which the record begins, its fields or why there are none); blank lines are skipped."""
    return _quoted(lines, delimiter) if quoting else _plain(lines, delimiter)


def find_layout(
    lines: Lines, delimiter: str, quoting: bool | None, header: bool | None, text: str, label: str, where: str
) -> Layout:
    """The layout of a file. Raises DataError when it is empty or has no such columns.

    Quoting, when not given, is on for commas; for tabs it is on when the whole file reads cleanly with it.
    """
    if quoting is None:
        quoting = delimiter == "," or quotes_balance(lines(), delimiter)
    _, first = next(records(lines(), delimiter, quoting), (1, None))
    if first is None:
        raise DataError(f"{where}: it is empty; give a file with rows of text and label")
    if isinstance(first, Malformed):
        raise DataError(f"{where}: its first record cannot be read ({first.reason}); correct line 1 or data.quoting")
    if header is None:
        # An index says that there is no header, unless the header names it.
        header = not (text.isdecimal() and label.isdecimal()) or (text in first and label in first)
    if header:
        positions = (find_column(text, first, "data.text", where), find_column(label, first, "data.label", where))
    else:
        width = len(first)
        positions = (find_index(text, width, "data.text", where), find_index(label, width, "data.label", where))
    return Layout(
        delimiter=delimiter,
        quoting=quoting,
        header=header,
        text=positions[0],
        label=positions[1],
        num_columns=len(first),
    )


def quotes_balance(lines: Iterator[str], delimiter: str) -> bool:
    """Whether the whole file reads with quoting without a malformed record or a change of width."""
    width = None
    for _, fields in _quoted(lines, delimiter):
        if isinstance(fields, Malformed) or len(fields) != (width or len(fields)):
            return False
        width = len(fields)
    return True


def read_delimited(lines: Iterator[str], layout: Layout, source: str) -> Iterator[Batch]:
    """Yield the file's rows in batches."""
    text, label, width = layout.text, layout.label, layout.num_columns
    found = records(lines, layout.delimiter, layout.quoting)
    if layout.header:
        next(found, None)
    batch = Batch()
    for line, fields in found:
        if isinstance(fields, list) and len(fields) == width:
            batch.add(fields[text], fields[label], line, source)
        else:
            batch.rejected.append(_reject(fields, line, layout, source))
        if batch.full:
            yield batch
            batch = Batch()
    yield batch


def _reject(fields: list[str] | Malformed, line: int, layout: Layout, source: str) -> Rejected:
    if isinstance(fields, Malformed):
        return Rejected(source, line, fields.reason, excerpt=fields.excerpt, num_lines=fields.num_lines)
    detail = f"{len(fields)} where {layout.num_columns} are expected"
    excerpt = layout.delimiter.join(fields)
    return Rejected(source, line, FIELDS, detail, excerpt, num_lines=1 + excerpt.count("\n"))


def _plain(lines: Iterator[str], delimiter: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        content = line.rstrip("\n").removesuffix("\r")
        if content:
            yield number, content.split(delimiter)


def _quoted(lines: Iterator[str], delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    given: list[str] = []  # lines of the record that is being read
    again: list[str] = []  # lines to be read once more, the next one last
    number = 1
    while True:
        try:
            for fields in csv.reader(_feed(lines, given, again), delimiter=delimiter, strict=True):
                if fields:
                    yield number, fields
                number += len(given)
                given.clear()
            return
        except csv.Error as error:
            malformed = _malformed(given, str(error), delimiter)
        yield number, malformed
        again.extend(reversed(given[malformed.num_lines :]))
        number += malformed.num_lines
        given.clear()


def _feed(lines: Iterator[str], given: list[str], again: list[str]) -> Iterator[str]:
    while again:
        line = again.pop()
        given.append(line)
        yield line
    for line in lines:
        given.append(line)
        yield line


def _malformed(given: list[str], message: str, delimiter: str) -> Malformed:
    excerpt = given[0].rstrip("\r\n")
    if "new-line character" in message:
        return Malformed(CARRIAGE_RETURN, excerpt, len(given))
    if "field larger" in message and len(given) == 1:
        return Malformed(TOO_LONG, excerpt, 1)
    if "expected after" in message and not (len(given) > 1 and _opens_a_field(given[-1], delimiter)):
        return Malformed(AFTER_QUOTE, "".join(given).rstrip("\r\n"), len(given))
    return Malformed(UNCLOSED, excerpt, 1)


def _opens_a_field(line: str, delimiter: str) -> bool:
    """Whether the quote that closes in `line`, which begins inside quotes, stands where a field would open.

    Then it was not meant to close: the quote before it was never closed.
    """
    position = line.find('"')
    while line.startswith('""', position):
        position = line.find('"', position + 2)
    return position == 0 or line[position - 1 : position] == delimiter
