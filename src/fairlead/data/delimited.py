"""Reads CSV and TSV: quoted or not, with or without a header, every record with its physical line.

The csv module's strict mode takes records apart. What it refuses is set aside, and reading goes on
after it; a quote that never closes costs its own line, not the rest of the file.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from fairlead.config import Config
from fairlead.data.columns import find_column, find_index
from fairlead.data.lines import Blocks
from fairlead.data.rows import Batch, Rejected
from fairlead.errors import DataError

# A quoted field that is still open after so many characters is taken for a quote that nobody closed.
MAX_FIELD_CHARACTERS = 16 << 20

UNCLOSED = "a quote opens here and is never closed"
AFTER_QUOTE = "text after a closing quote"
CARRIAGE_RETURN = "a carriage return outside quotes"
TOO_LONG = f"a field of more than {MAX_FIELD_CHARACTERS} characters"
FIELDS = "wrong number of fields"

Reopen = Callable[[], Blocks]
"""Starts reading the file from its beginning."""


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


@dataclass
class Records:
    """The records of a block of lines."""

    rows: list[list[str]] = field(default_factory=list)
    """Fields of each record; none for a blank line."""
    lines: list[int] = field(default_factory=list)
    """1-based line on which each record begins."""
    malformed: list[tuple[int, Malformed]] = field(default_factory=list)
    """What could not be taken apart, with its line."""


def read_records(blocks: Blocks, delimiter: str, quoting: bool) -> Iterator[Records]:
    """Take the lines apart, block by block."""
    return _quoted(blocks, delimiter) if quoting else _plain(blocks, delimiter)


def find_layout(
    reopen: Reopen, delimiter: str, quoting: bool | None, header: bool | None, text: str, label: str, where: str
) -> Layout:
    """The layout of a file. Raises DataError when it is empty or has no such columns.

    Quoting, when not given, is on for commas; for tabs it is on when the whole file reads cleanly with it.
    """
    if quoting is None:
        quoting = delimiter == "," or quotes_balance(reopen(), delimiter)
    first = _first_record(reopen, delimiter, quoting, where)
    if header is None:
        # An index says that there is no header, unless the header names it.
        header = not (text.isdecimal() and label.isdecimal()) or (text in first and label in first)
    if header:
        columns = (find_column(text, first, "data.text", where), find_column(label, first, "data.label", where))
    else:
        width = len(first)
        columns = (find_index(text, width, "data.text", where), find_index(label, width, "data.label", where))
    return Layout(
        delimiter=delimiter,
        quoting=quoting,
        header=header,
        text=columns[0],
        label=columns[1],
        num_columns=len(first),
    )


def quotes_balance(blocks: Blocks, delimiter: str) -> bool:
    """Whether the whole file reads with quoting without a malformed record or a change of width."""
    widths: set[int] = set()
    for records in _quoted(blocks, delimiter):
        widths.update(map(len, records.rows))
        if records.malformed or len(widths - {0}) > 1:
            return False
    return True


def read_delimited(blocks: Blocks, layout: Layout, source: str) -> Iterator[Batch]:
    """Yield the file's rows, a batch for each block."""
    skip = layout.header
    for records in read_records(blocks, layout.delimiter, layout.quoting):
        if set(map(len, records.rows)) - {layout.num_columns} or skip:
            rejected, skip = _set_aside(records, layout, source, skip)
        else:
            rejected = []
        rejected += [
            Rejected(source, line, bad.reason, excerpt=bad.excerpt, num_lines=bad.num_lines)
            for line, bad in records.malformed
        ]
        texts = [fields[layout.text] for fields in records.rows]
        labels = [fields[layout.label] for fields in records.rows]
        yield Batch(texts, labels, records.lines, [source] * len(texts), rejected)


def _first_record(reopen: Reopen, delimiter: str, quoting: bool, where: str) -> list[str]:
    for records in read_records(reopen(), delimiter, quoting):
        rows = ((line, fields) for line, fields in zip(records.lines, records.rows, strict=True) if fields)
        line, first = next(rows, (0, None))
        if records.malformed and (first is None or records.malformed[0][0] < line):
            line, bad = records.malformed[0]
            raise DataError(
                f"{where}: its first record, at line {line}, cannot be read ({bad.reason}); "
                "correct it, or set data.format or data.quoting"
            )
        if first is not None:
            return first
    raise DataError(f"{where}: it is empty; give a file with rows of text and label")


def _set_aside(records: Records, layout: Layout, source: str, skip: bool) -> tuple[list[Rejected], bool]:
    """Take the rows of another width out of `records`, with blank lines and, when `skip`, the header.

    Returns what is set aside, and whether the header is still to come.
    """
    numbered = [(line, fields) for line, fields in zip(records.lines, records.rows, strict=True) if fields]
    if skip and numbered:
        numbered, skip = numbered[1:], False
    good = [(line, fields) for line, fields in numbered if len(fields) == layout.num_columns]
    records.lines, records.rows = [line for line, _ in good], [fields for _, fields in good]
    wrong = [(line, fields) for line, fields in numbered if len(fields) != layout.num_columns]
    return [_wrong_width(fields, line, layout, source) for line, fields in wrong], skip


def _wrong_width(fields: list[str], line: int, layout: Layout, source: str) -> Rejected:
    detail = f"{len(fields)} where {layout.num_columns} are expected"
    excerpt = layout.delimiter.join(fields)
    return Rejected(source, line, FIELDS, detail, excerpt, num_lines=1 + excerpt.count("\n"))


def _plain(blocks: Blocks, delimiter: str) -> Iterator[Records]:
    number = 1
    for lines in blocks:
        contents = [line.rstrip("\r\n") if line.endswith("\r\n") else line.rstrip("\n") for line in lines]
        rows = [content.split(delimiter) if content else [] for content in contents]
        yield Records(rows, list(range(number, number + len(lines))))
        number += len(lines)


def _quoted(blocks: Blocks, delimiter: str) -> Iterator[Records]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    number = 1
    held: list[str] = []  # lines of a record that goes on in the next block
    for block in blocks:
        lines = held + block
        records, num_read = _take_apart(lines, number, delimiter, is_last=False)
        yield records
        held = lines[num_read:]
        number += num_read
    yield _take_apart(held, number, delimiter, is_last=True)[0]


def _take_apart(lines: list[str], number: int, delimiter: str, is_last: bool) -> tuple[Records, int]:
    """The records of `lines`, of which the first has `number`, and how many lines they take up."""
    records = Records()
    begin = start = 0  # where the reader began, and the record that it reads
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            for fields in reader:
                records.rows.append(fields)
                records.lines.append(number + start)
                start = begin + reader.line_num
            return records, start
        except csv.Error as error:
            given = lines[start : begin + reader.line_num]
            if "unexpected end" in str(error) and not is_last and sum(map(len, given)) < MAX_FIELD_CHARACTERS:
                return records, start
            malformed = _malformed(given, str(error), delimiter)
        records.malformed.append((number + start, malformed))
        start += malformed.num_lines
        if malformed.num_lines < len(given):
            begin, reader = start, csv.reader(islice(lines, start, None), delimiter=delimiter, strict=True)


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
