"""The ingest stage: labelled text from anywhere becomes a data version.

Two passes keep memory bounded whatever the size of the sources. The first reads them, sets rows
aside that cannot be used, spools the others to disk and remembers 36 bytes of each on disk and 11
in memory. Then duplicates, conflicts and leaks are known and every row gets its split. The second
writes the splits.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fairlead.data.assignment import assign, check_classes, check_splits
from fairlead.data.cleaning import MEASURED, POOL, VALIDATION, judge
from fairlead.data.config import DataConfig
from fairlead.data.findings import SourceCount, labels_alike, quantiles, summarise
from fairlead.data.reading import STAGE, Meter, open_source, size_of
from fairlead.data.spool import Spool
from fairlead.data.writing import write_splits
from fairlead.errors import NotFound, StorageError
from fairlead.events import Progress, result
from fairlead.formats import dataset
from fairlead.formats.dataset import DataManifest, SplitSummary, dataset_digest
from fairlead.formats.digests import PREFIX, of_json, short
from fairlead.places import home, store_url
from fairlead.registry import open_registry
from fairlead.stage import disk_sentence, stage
from fairlead.storage.folders import publish
from fairlead.storage.opening import open_store
from fairlead.storage.sources import localize, redact

SPOOL = ".spool"


@dataclass
class Source:
    """One source, local by now."""

    name: str
    """`train` for the pool, else the split it is."""
    address: str
    """As it was given."""
    path: Path
    """The file or folder."""


@stage(STAGE)
def ingest_stage(config: dict[str, Any], source_digest: str, output: str) -> None:
    """Make a data version in the folder `output`, publish it to the store and record it in the registry.

    `config` is DataConfig's values. `source_digest` names the content of the sources, so that a
    cache of stages tells a changed file; what was read is digested anew.
    """
    settings = DataConfig.parse(config, "data")
    sources = localize_sources(settings, source_digest)
    folder = Path(output)
    manifest = ingest(settings, sources, folder)
    publish_data(manifest, folder)
    result(STAGE, _rows(manifest))


def localize_sources(config: DataConfig, source_digest: str) -> list[Source]:
    """Every source as a local file or folder; a download that was cut is found again by `source_digest`."""
    addresses = {dataset.TRAIN: config.source, dataset.VALIDATION: config.validation, dataset.TEST: config.test}
    sources = []
    for name, address in {**addresses, **config.extra}.items():
        if address:
            into = home() / "sources" / short(of_json([address, source_digest]))
            sources.append(Source(name, address, localize(address, into, stage=STAGE)))
    return sources


def ingest(config: DataConfig, sources: list[Source], folder: Path) -> DataManifest:
    """Make a data version in `folder`; its manifest is written last. `sources[0]` is the pool to train on.

    Raises DataError when the data cannot be used and StorageError when the disk fails.
    """
    try:
        _clear(folder)
        return _ingest(config, sources, folder)
    except OSError as error:
        raise StorageError(disk_sentence(STAGE, error)) from error
    finally:
        shutil.rmtree(folder / SPOOL, ignore_errors=True)


def publish_data(manifest: DataManifest, folder: Path) -> None:
    """Upload a data version unless the store has it, and record it in the registry."""
    prefix = f"data/{manifest.digest.removeprefix(PREFIX)}/"
    store = open_store(store_url())
    try:
        store.stat(prefix + dataset.MANIFEST)
    except NotFound:
        publish(store, folder, prefix, dataset.MANIFEST, stage=STAGE)
    with open_registry() as registry:
        registry.record_data_version(manifest, prefix)


def _ingest(config: DataConfig, sources: list[Source], folder: Path) -> DataManifest:
    spool = Spool(folder / SPOOL, config)
    counts, digests, ends = _read(config, sources, spool, folder / dataset.REJECTED)
    names, labels = list(spool.label_ids), spool.finish()
    roles = {i: _role(source.name) for i, source in enumerate(sources)}
    progress = Progress(STAGE, "find duplicates", spool.num_rows, "rows")
    verdicts = judge(spool.keys, ends, roles, config, progress.advance)
    check_classes(verdicts, names, config, redact(sources[0].address))
    progress = Progress(STAGE, "draw the splits", spool.num_rows, "rows")
    progress.begin()
    splits, codes = assign([source.name for source in sources], ends, verdicts, labels, config)
    progress.advance(spool.num_rows)
    check_splits(splits, codes, labels, names, [source.name for source in sources])
    findings = summarise(counts, ends, verdicts, config)
    progress = Progress(STAGE, "write the splits", spool.num_rows, "rows")
    summaries, lengths = write_splits(spool, splits, codes, folder, progress.advance)
    findings["text_bytes"] = quantiles(lengths)
    findings["labels_alike"] = labels_alike(summaries[dataset.TRAIN].label_counts)
    manifest = DataManifest(
        digest=dataset_digest(
            {name: (summary.num_rows, summary.digest) for name, summary in summaries.items()}, config.task
        ),
        task=config.task,
        labels=sorted(summaries[dataset.TRAIN].label_counts),
        splits=summaries,
        sources={source.name: redact(source.address) for source in sources},
        source_digests=digests,
        config=_without_credentials(config),
        findings=findings,
    )
    dataset.write_manifest(folder, manifest)
    return manifest


def _read(
    config: DataConfig, sources: list[Source], spool: Spool, rejected_path: Path
) -> tuple[dict[str, SourceCount], dict[str, str], list[int]]:
    """Pass one: each source's counts and digest by name, and the row after its last."""
    progress = Progress(STAGE, "read", sum(size_of(source.path) for source in sources), "bytes")
    counts, digests, ends = {}, {}, []
    with rejected_path.open("w", encoding="utf-8") as rejected_file:
        for source in sources:
            meter = Meter(progress.advance)
            counts[source.name] = _read_source(source, config, spool, meter, rejected_file)
            digests[source.name] = meter.digest()
            ends.append(spool.num_rows)
            rejected_file.flush()
            counts[source.name].check(config.max_rejected_share, rejected_path)
    return counts, digests, ends


def _read_source(source: Source, config: DataConfig, spool: Spool, meter: Meter, rejected_file: TextIO) -> SourceCount:
    where = redact(source.address)
    reading = open_source(source.path, config, meter, where)
    count = SourceCount(where, {"format": reading.format, **reading.notes})
    for batch in reading.batches:
        # Rows in order of their lines, whoever set them aside.
        rejected = sorted([*batch.rejected, *spool.add(batch, where)], key=lambda row: row.line)
        count.add(len(batch.texts), rejected)
        for row in rejected:
            rejected_file.write(json.dumps(row.to_dict(), ensure_ascii=False) + "\n")
    return count


def _role(name: str) -> int:
    return {dataset.TRAIN: POOL, dataset.VALIDATION: VALIDATION}.get(name, MEASURED)


def _clear(folder: Path) -> None:
    """Remove what a killed run left, the manifest first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / dataset.MANIFEST).unlink(missing_ok=True)
    for path in folder.glob("*.parquet"):
        path.unlink()
    shutil.rmtree(folder / SPOOL, ignore_errors=True)


def _without_credentials(config: DataConfig) -> dict[str, Any]:
    values = config.to_dict()
    for name in ("source", "validation", "test"):
        values[name] = values[name] and redact(values[name])
    values["extra"] = {name: redact(address) for name, address in config.extra.items()}
    return values


def _rows(manifest: DataManifest) -> dict[str, Any]:
    """What the command line shows."""
    findings = manifest.findings
    dropped = sum(policy["dropped"] for policy in findings["policies"].values())
    rows: dict[str, Any] = {"data version": short(manifest.digest), "rows read": findings["rows_read"]}
    rows |= {name: _num_rows(summary) for name, summary in manifest.splits.items()}
    rows |= {"classes": len(manifest.labels), "rejected": findings["rejected"], "dropped": dropped}
    for name in ("duplicates_exact", "duplicates_normalised", "conflicts", "leaked"):
        rows[name.replace("_", " ")] = findings[name]
    encodings = sorted(set(findings["encoding"].values()))
    return rows | ({"encoding": ", ".join(encodings)} if encodings else {})


def _num_rows(summary: SplitSummary) -> int:
    return summary.num_rows
