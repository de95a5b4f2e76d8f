"""Duplicates, conflicting labels and leaks between splits: what is counted, and which rows are dropped.

Texts are compared in normal form (keys.normal_form). Within one source a row is

- a duplicate, when an earlier row has its text and its label; exact when the texts are the same
  character by character;
- in conflict, when a row with its text has another label.

A row leaks when its text stands in a source that is measured on: a training row in an own
validation, test or further source, a validation row in an own test or further source. Own test and
further sources are what models are compared on: their rows are counted and never dropped.

A training row that is replayed from a parent's data leaks when its text stands in any other source, a
replayed validation row when it stands in an own source that is measured on: it gives way to that row.
A new row that the parent was trained on is SEEN: it goes to train.

A dropped row is counted under one policy: leakage before conflicts before duplicates.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.data.config import DataConfig
from fairlead.data.keys import KeyFiles, group_bounds
from fairlead.data.labels import Labels
from fairlead.data.splitting import Ranks

# FOLLOWS: kept in the pool, and in whatever split the first kept row with its text is. SEEN: kept, to train.
KEEP, LEAKED, CONFLICTING, DUPLICATE, FOLLOWS, SEEN = range(6)
KEPT = (KEEP, FOLLOWS, SEEN)
POLICIES = {LEAKED: "leakage", CONFLICTING: "conflicts", DUPLICATE: "duplicates"}
# What a source is for: a row leaks into every source of a higher role. MEASURED ones are only measured on.
REPLAYED, POOL, REPLAYED_VALIDATION, VALIDATION, MEASURED = range(5)


class Entry(NamedTuple):
    """A row among the rows with one normal form."""

    row: int
    source: int
    label: int
    exact: int


@dataclass
class Verdicts:
    """What was decided for every row, and the counts for each source."""

    fates: npt.NDArray[np.uint8]
    """KEEP, LEAKED, CONFLICTING, DUPLICATE, FOLLOWS or SEEN by row."""
    ranks: Ranks
    """Of every pool row that is KEEP, its place among those of its class: what the split is drawn by."""
    followers: dict[int, int] = field(default_factory=dict)
    """Every row that is FOLLOWS, and the row it follows."""
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    """Findings by source: duplicates_exact, duplicates_normalised, conflicts, leaked."""

    def count(self, source: int, finding: str, number: int = 1) -> None:
        """Add to a finding of a source."""
        self.counts.setdefault(source, Counter())[finding] += number


def judge(
    keys: KeyFiles,
    source_ends: Sequence[int],
    roles: dict[int, int],
    config: DataConfig,
    labels: Labels,
    advance: Callable[[int], None],
    seen: npt.NDArray[np.uint64] | None = None,
) -> Verdicts:
    """Decide on every row. `source_ends[i]` is the row after the last of source i.

    `roles` gives each source its role. `advance` is told the rows decided on. `seen` are the keys of
    texts that a parent was trained on.
    """
    verdicts = Verdicts(np.full(source_ends[-1], KEEP, np.uint8), Ranks(source_ends[0]))
    ends = np.asarray(source_ends)
    for entries in keys.sorted_files():
        bounds = group_bounds(entries)
        sources = np.searchsorted(ends, entries["row"], side="right")
        for start, end in _repeated(bounds):
            some = entries[start:end]
            columns = (some["row"], sources[start:end], some["label"], some["exact"])
            group = [Entry(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
            _judge_group(group, roles, config, verdicts)
        rows = entries["row"]
        drawn = (rows < source_ends[0]) & (verdicts.fates[rows] == KEEP)
        if seen is not None:
            known = drawn & np.isin(entries["high"], seen)
            verdicts.fates[rows[known]] = SEEN
            drawn &= ~known
        verdicts.ranks.add(rows[drawn], labels.strata(entries["label"][drawn]))
        advance(len(entries))
    return verdicts


def _repeated(bounds: npt.NDArray[np.int64]) -> Iterable[tuple[int, int]]:
    starts = np.flatnonzero(np.diff(bounds) > 1)
    return zip(bounds[starts].tolist(), bounds[starts + 1].tolist(), strict=True)


def _judge_group(group: list[Entry], roles: dict[int, int], config: DataConfig, verdicts: Verdicts) -> None:
    """Decide on the rows of one normal form, in row order."""
    highest = max(roles[entry.source] for entry in group)
    for source in dict.fromkeys(entry.source for entry in group):
        entries = [entry for entry in group if entry.source == source]
        leaks = roles[source] < highest
        _count(entries, leaks, verdicts)
        if roles[source] == MEASURED:
            continue
        if roles[source] in (REPLAYED, REPLAYED_VALIDATION):
            # The parent's policies have let it through; only the new rows may take its place.
            _drop(entries, [] if leaks else entries, LEAKED, verdicts)
            continue
        kept = _apply(entries, leaks, config, verdicts)
        if roles[source] == POOL:
            verdicts.followers.update({entry.row: kept[0].row for entry in kept[1:]})
            verdicts.fates[[entry.row for entry in kept[1:]]] = FOLLOWS


def _count(entries: list[Entry], leaks: bool, verdicts: Verdicts) -> None:
    source = entries[0].source
    exact = len(entries) - len({(entry.label, entry.exact) for entry in entries})
    labels = {entry.label for entry in entries}
    verdicts.count(source, "duplicates_exact", exact)
    verdicts.count(source, "duplicates_normalised", len(entries) - len(labels) - exact)
    if len(labels) > 1:
        verdicts.count(source, "conflicts", len(entries))
    if leaks:
        verdicts.count(source, "leaked", len(entries))


def _apply(entries: list[Entry], leaks: bool, config: DataConfig, verdicts: Verdicts) -> list[Entry]:
    """Drop rows by each policy in turn; the rows that are kept."""
    if leaks and config.leakage == "drop":
        return _drop(entries, [], LEAKED, verdicts)
    if len({entry.label for entry in entries}) > 1 and config.conflicts != "keep":
        wanted = _majority(entries) if config.conflicts == "majority" else None
        entries = _drop(entries, [entry for entry in entries if entry.label == wanted], CONFLICTING, verdicts)
    if config.duplicates == "drop":
        first = {entry.label: entry for entry in reversed(entries)}
        entries = _drop(entries, [entry for entry in entries if first[entry.label] is entry], DUPLICATE, verdicts)
    return entries


def _drop(entries: list[Entry], kept: list[Entry], fate: int, verdicts: Verdicts) -> list[Entry]:
    rows = {entry.row for entry in kept}
    verdicts.fates[[entry.row for entry in entries if entry.row not in rows]] = fate
    return kept


def _majority(entries: list[Entry]) -> int | None:
    """The label of most rows; None when two labels are as frequent."""
    ranked = Counter(entry.label for entry in entries).most_common(2)
    return ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else None
