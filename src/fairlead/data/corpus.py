"""Ingest for language modelling: documents from anywhere become a data version.

As for labelled text (ingest) there are two passes, so that memory does not grow with the sources: the first reads and
spools documents in parts and remembers 44 bytes of each, of which 36 on disk; then it is known which are dropped and
which split each goes to; the second writes the splits.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fairlead.data.assignment import DROPPED, Codes
from fairlead.data.cleaning import DUPLICATE, FOLLOWS, KEEP, LEAKED, MEASURED, POLICIES, POOL, VALIDATION
from fairlead.data.config import DataConfig
from fairlead.data.document_splits import DocumentVerdicts, PositionCutter, judge_documents, split_documents
from fairlead.data.document_spool import DocumentSpool, to_batch
from fairlead.data.documents import Part, open_documents
from fairlead.data.findings import SourceCount, summarise
from fairlead.data.first_pass import Local, SetAside, read_sources
from fairlead.data.reading import STAGE, Meter
from fairlead.data.spool import SCHEMA
from fairlead.errors import DataError
from fairlead.events import Progress
from fairlead.formats import dataset
from fairlead.formats.dataset import DataManifest, RowDigest, SplitSummary, dataset_digest
from fairlead.storage.sources import redact

# Characters of a split's parts that are written together.
GROUP_CHARACTERS = 16 << 20
SPLITS = (dataset.TRAIN, dataset.VALIDATION, dataset.TEST)


def ingest_corpus(config: DataConfig, sources: Sequence[Local], folder: Path, resolved: dict[str, Any]) -> DataManifest:
    """Make a data version of documents in `folder`; its manifest is written last.

    `sources[0]` is the pool to train on; `resolved` are the settings for the record. Raises DataError
    when the text cannot be used.
    """
    spool = DocumentSpool(folder / ".spool", config.seed)
    found = read_sources(
        sources,
        folder / dataset.REJECTED,
        config.max_rejected_share,
        lambda source, meter, set_aside: _read_source(source, config, spool, meter, set_aside),
        lambda: spool.num_documents,
    )
    spool.finish()
    ends = found.ends
    roles = [{dataset.TRAIN: POOL, dataset.VALIDATION: VALIDATION}.get(source.name, MEASURED) for source in sources]
    verdicts = judge_documents(spool.keys, ends, roles, config)
    names = [*SPLITS, *(source.name for source in sources if source.name not in SPLITS)]
    codes, by_position = _assign(verdicts, names, [source.name for source in sources], ends, config)
    summaries = _write(spool, names, codes, by_position, config, folder)
    _check(summaries, config, redact(sources[0].address))
    whole = {name: (summary.num_rows, summary.digest) for name, summary in summaries.items()}
    manifest = DataManifest(
        digest=dataset_digest(whole, config.task),
        task=config.task,
        labels=[],
        splits=summaries,
        sources={source.name: redact(source.address) for source in sources},
        source_digests=found.digests,
        config=resolved,
        findings=_findings(found.counts, ends, verdicts, config, by_position),
    )
    dataset.write_manifest(folder, manifest)
    return manifest


def _read_source(
    source: Local, config: DataConfig, spool: DocumentSpool, meter: Meter, set_aside: SetAside
) -> SourceCount:
    where = redact(source.address)
    documents = open_documents(source.path, config, meter, where)
    count = SourceCount(where, {"format": documents.format, **documents.notes})
    for pieces in documents.pieces:
        spool.add(pieces.parts)
        count.add(pieces.num_accepted, pieces.rejected)
        set_aside(pieces.rejected)
    return count


def _assign(
    verdicts: DocumentVerdicts, names: list[str], sources: list[str], ends: list[int], config: DataConfig
) -> tuple[Codes, bool]:
    """The split of every document by its index in `names`, and whether those of the pool are cut by position."""
    codes = np.zeros(ends[-1], np.int16)
    drawn = split_documents(verdicts, ends[0], config)
    if drawn is not None:
        codes[: ends[0]] = drawn
    for i, name in enumerate(sources[1:], 1):
        codes[ends[i - 1] : ends[i]] = names.index(name)
    codes[~np.isin(verdicts.fates, (KEEP, FOLLOWS))] = DROPPED
    return codes, drawn is None


def _write(
    spool: DocumentSpool, names: list[str], codes: Codes, by_position: bool, config: DataConfig, folder: Path
) -> dict[str, SplitSummary]:
    """Pass two: write `<name>.parquet` for each split."""
    progress = Progress(STAGE, "write the splits", sum(spool.num_characters), "characters")
    writers = [_SplitWriter(folder / f"{name}.parquet", progress.advance) for name in names]
    cutter, cut_document = None, -1
    for document, part in spool.parts():
        code = int(codes[document])
        if code == DROPPED:
            continue
        if not by_position or code != 0:
            writers[code].add(part)
            continue
        if document != cut_document:
            cutter, cut_document = PositionCutter(spool.num_characters[document], config), document
        assert cutter is not None
        first = part.first
        for piece_code, text in cutter.cut(part.text):
            writers[piece_code].add(Part(text, first, part.line, part.source))
            first = False
    return {name: writer.close() for name, writer in zip(names, writers, strict=True)}


class _SplitWriter:
    """One split's file, digest and counts."""

    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=["label", "source"])
        self._advance, self._digest = advance, RowDigest()
        self._held: list[Part] = []
        self._held_characters = 0
        self._documents = self._characters = 0

    def add(self, part: Part) -> None:
        """Add a part in order."""
        self._held.append(part)
        self._held_characters += len(part.text)
        if self._held_characters >= GROUP_CHARACTERS:
            self._flush()

    def close(self) -> SplitSummary:
        """End the file."""
        self._flush()
        self._writer.close()
        return SplitSummary(
            num_rows=self._digest.num_rows,
            digest=self._digest.digest(),
            label_counts={},
            num_documents=self._documents,
            num_characters=self._characters,
        )

    def _flush(self) -> None:
        if self._held:
            rows = to_batch(self._held)
            self._digest.add_batch(rows["text"], rows["label"])
            self._writer.write_batch(rows)
            self._documents += sum(part.first for part in self._held)
            self._characters += self._held_characters
            self._advance(self._held_characters)
            self._held, self._held_characters = [], 0


def _check(summaries: dict[str, SplitSummary], config: DataConfig, where: str) -> None:
    for name, summary in summaries.items():
        if not summary.num_rows:
            raise DataError(
                f"{where}: no text is left for the {name} split; give more text, other fractions, or data.{name}"
            )


def _findings(
    counts: dict[str, SourceCount], ends: list[int], verdicts: DocumentVerdicts, config: DataConfig, by_position: bool
) -> dict[str, Any]:
    """What every ingest finds, and how many documents each source had."""
    policies = {fate: POLICIES[fate] for fate in (LEAKED, DUPLICATE)}
    findings = summarise(counts, ends, verdicts, config, policies)
    for i, name in enumerate(counts):
        findings["by_source"][name]["documents"] = ends[i] - (ends[i - 1] if i else 0)
    return findings | {"documents": ends[-1], "split": "position" if by_position else "documents"}
