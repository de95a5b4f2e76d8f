"""Counts what ingest finds in each source, and says it in the manifest."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fairlead.data.cleaning import POLICIES
from fairlead.data.config import DataConfig
from fairlead.data.rows import Rejected
from fairlead.errors import DataError

FINDINGS = ("duplicates_exact", "duplicates_normalised", "conflicts", "leaked")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass
class SourceCount:
    """What was read from one source."""

    where: str
    """Its address, without credentials."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Format, encoding and layout."""
    rows_read: int = 0
    """Rows, those set aside included."""
    rejected: int = 0
    """Rows set aside."""
    lines_lost: int = 0
    """Physical lines of the rows set aside: a broken quote can swallow many."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Rows set aside, by reason."""
    first_line: int | None = None
    """Line of the first row set aside."""

    def add(self, num_accepted: int, rejected: Iterable[Rejected]) -> None:
        """Count the rows of a batch."""
        self.rows_read += num_accepted
        for row in rejected:
            self.rows_read += 1
            self.rejected += 1
            self.lines_lost += row.num_lines
            self.reasons[row.reason] += 1
            self.first_line = self.first_line or row.line

    def check(self, max_share: float, rejected_file: Path) -> None:
        """Raise DataError when there are no rows, or too many were set aside."""
        if not self.rows_read:
            raise DataError(f"{self.where}: it has no rows; give a file with rows of text and label")
        usable = self.rows_read - self.rejected
        share = self.lines_lost / (usable + self.lines_lost)
        if usable and share <= max_share:
            return
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
        raise DataError(
            f"{self.where}: {self.rejected} of {self.rows_read} rows ({share:.1%} of its lines) were set aside, the "
            f"first at line {self.first_line}: {reasons}; see {rejected_file}, correct the file or raise "
            f"data.max_rejected_share ({max_share})"
        )


class Judged(Protocol):
    """What was decided for every row, or for every document."""

    fates: npt.NDArray[np.uint8]
    counts: dict[int, Counter[str]]


def summarise(
    sources: dict[str, SourceCount],
    ends: list[int],
    verdicts: Judged,
    config: DataConfig,
    policies: Mapping[int, str] = POLICIES,
) -> dict[str, Any]:
    """The manifest's findings: totals, and the same for each source; `policies` are those that could drop something."""
    by_source = {}
    for i, (name, count) in enumerate(sources.items()):
        fates = verdicts.fates[ends[i - 1] if i else 0 : ends[i]]
        found = verdicts.counts.get(i, Counter())
        by_source[name] = {
            "rows_read": count.rows_read,
            "rejected": count.rejected,
            "rejected_reasons": dict(count.reasons),
            **count.notes,
            **{finding: found[finding] for finding in FINDINGS},
            "dropped": {policy: int((fates == fate).sum()) for fate, policy in policies.items()},
        }
    return {**_totals(by_source, config, policies), "by_source": by_source}


def _totals(by_source: dict[str, dict[str, Any]], config: DataConfig, policies: Mapping[int, str]) -> dict[str, Any]:
    values = by_source.values()
    totals: dict[str, Any] = {name: sum(v[name] for v in values) for name in ("rows_read", "rejected", *FINDINGS)}
    totals["rejected_reasons"] = dict(sum((Counter(v["rejected_reasons"]) for v in values), Counter()))
    totals["encoding"] = {name: v["encoding"] for name, v in by_source.items() if "encoding" in v}
    totals["policies"] = {
        policy: {"policy": getattr(config, policy), "dropped": sum(v["dropped"][policy] for v in values)}
        for policy in policies.values()
    }
    return totals


def quantiles(lengths: Counter[int]) -> dict[str, int]:
    """Quantiles of text lengths from how often each occurs: the least length that a share of texts keeps to."""
    values = sorted(lengths)
    totals = list(accumulate(lengths[value] for value in values))
    return {name: values[bisect_left(totals, share * totals[-1])] for name, share in QUANTILES.items()}


def labels_alike(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that differ only in case or white space: often one class written twice."""
    groups: dict[str, list[str]] = {}
    for label in sorted(labels):
        groups.setdefault(" ".join(label.casefold().split()), []).append(label)
    return [group for group in groups.values() if len(group) > 1]
