"""What ingest remembers of a row instead of its text: a digest of its normal form, on disk.

Entries of 36 bytes go to one of 64 files by the first bits of the digest, so that all rows with one
normal form are in one file, and only one file is in memory at a time: 60 MB for 100 million rows.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

NUM_FILES = 64
ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("exact", "<i8"), ("label", "<i4"), ("row", "<i8")])
Entries = npt.NDArray[np.void]


def normal_form(text: str) -> str:
    """Text as duplicates are compared: compatibility forms and case folded, white space collapsed."""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def make_entries(
    texts: Sequence[str], normals: Sequence[str], labels: npt.NDArray[np.int32], first_row: int, seed: int
) -> Entries:
    """The entries of consecutive rows. The seed salts the digests, so that their order is a draw by seed."""
    salt = seed.to_bytes(8, "big")
    # 128 bits: no two of a billion texts meet by chance. Python's hash only tells, among texts
    # of one normal form, the exact repetitions.
    digests = b"".join([blake2b(normal.encode(), digest_size=16, salt=salt).digest() for normal in normals])
    entries = np.empty(len(texts), ENTRY)
    entries["high"], entries["low"] = np.frombuffer(digests, ">u8").reshape(-1, 2).T
    entries["exact"] = np.fromiter(map(hash, texts), np.int64, len(texts))
    entries["label"] = labels
    entries["row"] = np.arange(first_row, first_row + len(texts))
    return entries


def key_of(text: str, seed: int) -> int:
    """The `high` half of a text's digest, as its entry has it."""
    digest = blake2b(normal_form(text).encode(), digest_size=16, salt=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big")


class KeyFiles:
    """The entries on disk: appended while rows are read, then read back group by group."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._paths = [folder / f"{i:02d}" for i in range(NUM_FILES)]
        self._files = [path.open("wb") for path in self._paths]

    def append(self, entries: Entries) -> None:
        """Add entries in row order."""
        which = entries["high"] >> np.uint64(58)
        order = np.argsort(which, kind="stable")
        ends = np.searchsorted(which[order], np.arange(NUM_FILES + 1))
        entries = entries[order]
        for i, file in enumerate(self._files):
            if ends[i] < ends[i + 1]:
                file.write(entries[ends[i] : ends[i + 1]].tobytes())

    def finish(self) -> None:
        """End appending."""
        for file in self._files:
            file.close()

    def sorted_files(self) -> Iterator[Entries]:
        """Each file's entries, in the order of all digests; entries of one digest in row order."""
        for path in self._paths:
            entries = np.fromfile(path, ENTRY)
            if len(entries):
                yield entries[np.lexsort((entries["low"], entries["high"]))]


def group_bounds(entries: Entries) -> npt.NDArray[np.int64]:
    """Where each run of equal digests begins in sorted entries, and the end."""
    high, low = entries["high"], entries["low"]
    changes = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return np.concatenate(([0], np.flatnonzero(changes) + 1, [len(entries)]))
