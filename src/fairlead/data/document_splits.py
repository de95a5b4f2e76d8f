"""Which documents are dropped, and which split the others go to: whole, or each cut by its position.

Documents are compared in normal form (keys.normal_form), as texts with labels are (cleaning): one whose text an
earlier document of its source has is a duplicate; one of training or validation that an own test or further source
has is a leak, as is one of training that an own validation source has.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fairlead.data.cleaning import DUPLICATE, FOLLOWS, KEEP, LEAKED, MEASURED, POOL
from fairlead.data.config import DataConfig
from fairlead.data.keys import Entries, KeyFiles, group_bounds
from fairlead.data.splitting import TEST_CODE, TRAIN_CODE, VALIDATION_CODE, shares

# With fewer documents a tenth of them is one or two, which say little of the others.
MIN_DOCUMENTS = 20


@dataclass
class DocumentVerdicts:
    """What was decided for every document."""

    fates: npt.NDArray[np.uint8]
    """KEEP, LEAKED, DUPLICATE or FOLLOWS by document."""
    followers: dict[int, int] = field(default_factory=dict)
    """Every document that is FOLLOWS, and the one that it follows into its split."""
    drawn: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """The kept documents of the pool in the order of their digests, which the seed salts: the draw of the split."""
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    """Findings by source: duplicates_exact, duplicates_normalised, leaked."""

    def count(self, source: int, finding: str) -> None:
        """Add one to a finding of a source."""
        self.counts.setdefault(source, Counter())[finding] += 1


def judge_documents(keys: KeyFiles, ends: Sequence[int], roles: Sequence[int], config: DataConfig) -> DocumentVerdicts:
    """Decide on every document. `ends[i]` is the document after the last of source i, `roles[i]` its role."""
    verdicts = DocumentVerdicts(np.full(ends[-1], KEEP, np.uint8))
    source_ends = np.asarray(ends)
    for entries in keys.sorted_files():
        bounds = group_bounds(entries)
        for start in np.flatnonzero(np.diff(bounds) > 1).tolist():
            _judge_alike(entries[bounds[start] : bounds[start + 1]], source_ends, roles, config, verdicts)
        rows = entries["row"].astype(np.int64)
        verdicts.drawn.append(rows[(rows < ends[0]) & (verdicts.fates[rows] == KEEP)])
    return verdicts


def split_documents(verdicts: DocumentVerdicts, num_pool: int, config: DataConfig) -> npt.NDArray[np.uint8] | None:
    """The split code of each document of the pool; None when each is cut by position."""
    drawn = np.concatenate([np.zeros(0, np.int64), *verdicts.drawn])
    if config.split == "position" or (config.split == "auto" and len(drawn) < MIN_DOCUMENTS):
        return None
    codes = np.full(num_pool, TRAIN_CODE, np.uint8)
    num_test, num_validation = shares(len(drawn), fractions(config))
    codes[drawn[:num_test]] = TEST_CODE
    codes[drawn[num_test : num_test + num_validation]] = VALIDATION_CODE
    for document, first in verdicts.followers.items():
        codes[document] = codes[first]
    return codes


def fractions(config: DataConfig) -> tuple[float, float]:
    """The shares of the pool that go to test and to validation; 0 for one that has a source of its own."""
    return 0.0 if config.test else config.test_fraction, 0.0 if config.validation else config.validation_fraction


class PositionCutter:
    """Cuts a document into training, validation and test text by position, each cut at the next end of a line."""

    def __init__(self, num_characters: int, config: DataConfig) -> None:
        test, validation = fractions(config)
        starts = (int(num_characters * (1 - test - validation)), int(num_characters * (1 - test)))
        self._ahead = list(zip(starts, (VALIDATION_CODE, TEST_CODE), strict=True))
        self._code, self._position = TRAIN_CODE, 0

    def cut(self, text: str) -> list[tuple[int, str]]:
        """The next part of the document in pieces, each with the code of its split."""
        pieces = []
        while self._ahead and self._position + len(text) > self._ahead[0][0]:
            start, code = self._ahead.pop(0)
            left = start - self._position
            # A part ends where a line ends, but for a line of more than a part: that is cut in its midst.
            index = 0 if left <= 0 else text.find("\n", left - 1) + 1 or left
            pieces.append((self._code, text[:index]))
            text, self._code, self._position = text[index:], code, self._position + index
        pieces.append((self._code, text))
        self._position += len(text)
        return [(code, piece) for code, piece in pieces if piece]


def _judge_alike(
    entries: Entries,
    ends: npt.NDArray[np.int64],
    roles: Sequence[int],
    config: DataConfig,
    verdicts: DocumentVerdicts,
) -> None:
    """Decide on the documents of one normal form, in their order."""
    documents = entries["row"].astype(np.int64)
    sources = np.searchsorted(ends, documents, side="right").tolist()
    highest = max(roles[source] for source in sources)
    seen: dict[int, int] = {}
    texts: set[tuple[int, int]] = set()
    for document, source, exact in zip(documents.tolist(), sources, entries["exact"].tolist(), strict=True):
        leaks = roles[source] < highest
        if leaks:
            verdicts.count(source, "leaked")
        if source in seen:
            verdicts.count(source, "duplicates_exact" if (source, exact) in texts else "duplicates_normalised")
        if roles[source] != MEASURED:
            if leaks and config.leakage == "drop":
                verdicts.fates[document] = LEAKED
            elif source in seen and config.duplicates == "drop":
                verdicts.fates[document] = DUPLICATE
            elif source in seen and roles[source] == POOL:
                verdicts.fates[document], verdicts.followers[document] = FOLLOWS, seen[source]
        seen.setdefault(source, document)
        texts.add((source, exact))
