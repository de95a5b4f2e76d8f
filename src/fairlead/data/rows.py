"""What a reader yields: rows a batch at a time, and the rows that it set aside."""

from dataclasses import dataclass, field

EXCERPT_CHARACTERS = 200


@dataclass(frozen=True)
class Rejected:
    """A row that was set aside."""

    source: str
    """The file, or the file's path in its folder."""
    line: int
    """1-based physical line (row, for Parquet) on which the row begins."""
    reason: str
    """What is wrong, one of a few sentences: they are counted."""
    detail: str = ""
    """The numbers and names that the reason leaves out."""
    excerpt: str = ""
    """Beginning of the row, bytes that could not be decoded written as escapes."""
    num_lines: int = 1
    """Physical lines of a record that could not be taken apart: each may be a row lost."""

    def to_dict(self) -> dict[str, str | int]:
        """The object written to `rejected.jsonl`."""
        reason = f"{self.reason}: {self.detail}" if self.detail else self.reason
        value: dict[str, str | int] = {"source": self.source, "line": self.line, "reason": reason}
        value["excerpt"] = printable(self.excerpt[:EXCERPT_CHARACTERS])
        if self.num_lines > 1:
            value["lines"] = self.num_lines
        return value


@dataclass
class Batch:
    """Rows in order, one entry a row in each list, and what was set aside among them: a few megabytes."""

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, text: str, label: str, line: int, source: str) -> None:
        """Add one row."""
        self.texts.append(text)
        self.labels.append(label)
        self.lines.append(line)
        self.sources.append(source)


def printable(text: str) -> str:
    """`text` with lone surrogates, which stand for undecodable bytes, as escapes: legal UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
