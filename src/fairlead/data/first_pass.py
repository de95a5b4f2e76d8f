"""Pass one of ingest, whatever the sources hold: each is read once, digested and counted; some rows are set aside."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from fairlead.data.findings import SourceCount
from fairlead.data.reading import STAGE, Meter, size_of
from fairlead.data.rows import Rejected
from fairlead.events import Progress


class Local(Protocol):
    """A source that is on this machine by now."""

    name: str
    address: str
    path: Path


S = TypeVar("S", bound=Local)
SetAside = Callable[[Iterable[Rejected]], None]
"""Takes rows that cannot be used."""
ReadSource = Callable[[S, Meter, SetAside], SourceCount]
"""Reads one source to its end."""


@dataclass
class FirstPass:
    """What pass one found, in the order of the sources."""

    counts: dict[str, SourceCount] = field(default_factory=dict)
    """By source."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the bytes of each source."""
    ends: list[int] = field(default_factory=list)
    """The row or document after the last of each source."""


def read_sources(
    sources: Sequence[S],
    rejected_path: Path,
    max_rejected_share: float,
    read: ReadSource[S],
    num_kept: Callable[[], int],
) -> FirstPass:
    """Read every source with `read`; rows set aside go to `rejected_path`, a JSON object a line.

    `num_kept` says how many rows or documents were kept so far. Raises DataError for a source without rows, or
    with too large a share of them set aside.
    """
    progress = Progress(STAGE, "read", sum(size_of(source.path) for source in sources), "bytes")
    found = FirstPass()
    with rejected_path.open("w", encoding="utf-8") as rejected_file:

        def set_aside(rows: Iterable[Rejected]) -> None:
            for row in rows:
                rejected_file.write(json.dumps(row.to_dict(), ensure_ascii=False) + "\n")

        for source in sources:
            meter = Meter(progress.advance)
            found.counts[source.name] = read(source, meter, set_aside)
            found.digests[source.name] = meter.digest()
            found.ends.append(num_kept())
            rejected_file.flush()
            found.counts[source.name].check(max_rejected_share, rejected_path)
    return found
