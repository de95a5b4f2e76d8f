"""Writes the splits of a data version as Parquet while their digests and label counts are taken."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairlead.data.assignment import Codes
from fairlead.data.spool import SCHEMA, Spool
from fairlead.data.tallies import Tally, count_values
from fairlead.formats.dataset import RowDigest, SplitSummary

# Bytes of rows held before a row group is written: large enough to compress, small beside the memory allowed.
ROW_GROUP_BYTES = 16 << 20


class SplitWriter:
    """One split's file, digest and counts."""

    def __init__(self, path: Path, tally: Tally) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=["label", "source"])
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._digest = RowDigest()
        self._tally = tally
        self.lengths: Counter[int] = Counter()
        """How many texts have so many UTF-8 bytes."""

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows in order."""
        self._digest.add_batch(rows["text"], rows["label"])
        self._tally.add(rows["label"])
        count_values(pc.binary_length(rows["text"]), self.lengths)
        self._held.append(rows)
        self._held_bytes += rows.nbytes
        if self._held_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> SplitSummary:
        """End the file."""
        self._flush()
        self._writer.close()
        return SplitSummary(
            num_rows=self._digest.num_rows,
            digest=self._digest.digest(),
            label_counts=self._tally.counts(),
            numbers=self._tally.numbers(),
        )

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held))
            self._held, self._held_bytes = [], 0


def write_splits(
    spool: Spool, names: Sequence[str], codes: Codes, folder: Path, advance: Callable[[int], None]
) -> tuple[dict[str, SplitSummary], Counter[int]]:
    """Write `<name>.parquet` for each split; `codes` has each row's split, by index in `names`.

    Returns each split's summary, and how many texts of all splits have so many UTF-8 bytes.
    """
    writers = [SplitWriter(folder / f"{name}.parquet", spool.labels.tally()) for name in names]
    for first, batch in spool.batches():
        wanted = codes[first : first + batch.num_rows]
        for code in np.unique(wanted[wanted >= 0]).tolist():
            writers[code].add(batch.filter(pa.array(wanted == code)))
        advance(batch.num_rows)
    lengths = sum((writer.lengths for writer in writers), Counter())
    return {name: writer.close() for name, writer in zip(names, writers, strict=True)}, lengths
