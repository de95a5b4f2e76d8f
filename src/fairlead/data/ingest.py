"""The ingest stage: labelled text from anywhere becomes a data version.

Two passes keep memory bounded whatever the size of the sources. The first reads them, sets rows
aside that cannot be used, spools the others to disk and remembers 36 bytes of each on disk and 11
in memory. Then duplicates, conflicts and leaks are known and every row gets its split. The second
writes the splits.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.data import incremental
from fairlead.data.assignment import assign, check_pool, check_splits, check_train, kept_labels
from fairlead.data.cleaning import KEPT, MEASURED, POOL, REPLAYED, REPLAYED_VALIDATION, VALIDATION, Verdicts, judge
from fairlead.data.config import DataConfig, IncrementalConfig
from fairlead.data.corpus import ingest_corpus
from fairlead.data.encodings import blocks_of
from fairlead.data.findings import SourceCount, labels_alike, quantiles, summarise
from fairlead.data.first_pass import SetAside, read_sources
from fairlead.data.incremental import NEW_TEST, REPLAY, REPLAY_VALIDATION, RESERVED, SPLIT_OF, Parent, find_parent
from fairlead.data.reading import STAGE, Meter, Reading, open_source
from fairlead.data.spool import Spool
from fairlead.data.writing import write_splits
from fairlead.errors import ConfigError, NotFound, StorageError
from fairlead.events import Progress, result
from fairlead.formats import dataset
from fairlead.formats.dataset import DataManifest, SplitSummary, dataset_digest
from fairlead.formats.digests import PREFIX, of_json, short
from fairlead.names import LANGUAGE_MODELING
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
    parent: Parent | None = None
    """Whose rows these are, when a parent brings them."""


@stage(STAGE)
def ingest_stage(
    config: dict[str, Any], source_digest: str, output: str, incremental: dict[str, Any] | None = None
) -> None:
    """Make a data version in the folder `output`, publish it to the store and record it in the registry.

    `config` is DataConfig's values, `incremental` IncrementalConfig's. `source_digest` names the content
    of the sources and the parent, so that a cache of stages tells a changed file; what was read is digested anew.
    """
    settings = DataConfig.parse(config, "data")
    parent = find_parent(IncrementalConfig.parse(incremental or {}, "incremental"), settings.task)
    sources = localize_sources(settings, source_digest, parent)
    folder = Path(output)
    manifest = ingest(settings, sources, folder, parent)
    publish_data(manifest, folder)
    result(STAGE, _rows(manifest))


def localize_sources(config: DataConfig, source_digest: str, parent: Parent | None = None) -> list[Source]:
    """Every source as a local file or folder; a download that was cut is found again by `source_digest`.

    With a parent its test split is the test source, and an own one is a further data set.
    """
    test = NEW_TEST if parent else dataset.TEST
    addresses = {dataset.TRAIN: config.source, dataset.VALIDATION: config.validation, test: config.test}
    if parent and (taken := sorted(RESERVED & config.extra.keys())):
        raise ConfigError(f"data.extra: {taken[0]!r} names rows of incremental training; use another name")
    sources = []
    for name, address in {**addresses, **config.extra}.items():
        if address:
            into = home() / "sources" / short(of_json([address, source_digest]))
            sources.append(Source(name, address, localize(address, into, stage=STAGE)))
    if parent:
        sources += [Source(name, parent.address(name), parent.path(name), parent) for name in parent.sources]
    return sources


def ingest(config: DataConfig, sources: list[Source], folder: Path, parent: Parent | None = None) -> DataManifest:
    """Make a data version in `folder`; its manifest is written last. `sources[0]` is the pool to train on.

    Raises DataError when the data cannot be used and StorageError when the disk fails.
    """
    try:
        _clear(folder)
        if config.task == LANGUAGE_MODELING:
            return ingest_corpus(config, sources, folder, _without_credentials(config))
        return _ingest(config, sources, folder, parent)
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


def _ingest(config: DataConfig, sources: list[Source], folder: Path, parent: Parent | None) -> DataManifest:
    spool = Spool(folder / SPOOL, config)
    found = read_sources(
        sources,
        folder / dataset.REJECTED,
        config.max_rejected_share,
        lambda source, meter, set_aside: _read_source(source, config, spool, meter, set_aside),
        lambda: spool.num_rows,
    )
    ends, ids = found.ends, spool.finish()
    spool.labels.settle(ids[: ends[0]], redact(sources[0].address))
    roles = {i: _role(source.name) for i, source in enumerate(sources)}
    progress = Progress(STAGE, "find duplicates", spool.num_rows, "rows")
    seen = incremental.seen_keys(parent, config.seed) if parent else None
    verdicts = judge(spool.keys, ends, roles, config, spool.labels, progress.advance, seen)
    where, source_names = redact(sources[0].address), [source.name for source in sources]
    if parent:
        incremental.check_labels(parent, kept_labels(verdicts, ids, spool.labels, ends[0], where))
    else:
        check_pool(verdicts, spool.labels, config, where)
    progress = Progress(STAGE, "draw the splits", spool.num_rows, "rows")
    progress.begin()
    held_out = NEW_TEST if parent else dataset.TEST
    splits, codes = assign(
        source_names, ends, verdicts, ids, spool.labels, config, SPLIT_OF if parent else {}, held_out
    )
    progress.advance(spool.num_rows)
    check_splits(splits, codes, ids, spool.labels, source_names, parent.labels if parent else ())
    findings = summarise(found.counts, ends, verdicts, config)
    progress = Progress(STAGE, "write the splits", spool.num_rows, "rows")
    summaries, lengths = write_splits(spool, splits, codes, folder, progress.advance)
    check_train(summaries[dataset.TRAIN], config.task, where)
    findings["text_bytes"] = quantiles(lengths)
    findings["labels_alike"] = labels_alike(summaries[dataset.TRAIN].label_counts)
    lineage = None
    if parent:
        incremental.check_frozen(parent, summaries[dataset.TEST].digest)
        lineage = incremental.lineage(parent, config.seed, _replayed(source_names, ends, verdicts))
    whole = {name: (summary.num_rows, summary.digest) for name, summary in summaries.items()}
    manifest = DataManifest(
        digest=dataset_digest(whole, config.task, lineage),
        task=config.task,
        labels=incremental.class_order(parent, summaries[dataset.TRAIN].label_counts),
        splits=summaries,
        sources={source.name: redact(source.address) for source in sources},
        source_digests=found.digests,
        config=_without_credentials(config),
        findings=findings,
        lineage=lineage,
    )
    dataset.write_manifest(folder, manifest)
    return manifest


def _read_source(source: Source, config: DataConfig, spool: Spool, meter: Meter, set_aside: SetAside) -> SourceCount:
    where = redact(source.address)
    reading = _open(source, config, meter, where)
    count = SourceCount(where, {"format": reading.format, **reading.notes})
    for batch in reading.batches:
        # Rows in order of their lines, whoever set them aside.
        rejected = sorted([*batch.rejected, *spool.add(batch, where)], key=lambda row: row.line)
        count.add(len(batch.texts), rejected)
        set_aside(rejected)
    return count


def _open(source: Source, config: DataConfig, meter: Meter, where: str) -> Reading:
    if source.parent is None:
        return open_source(source.path, config, meter, where)
    for block in blocks_of(source.path):
        meter(block)
    return Reading("parquet", {}, incremental.read_source(source.parent, source.name, config.seed))


def _replayed(names: list[str], ends: list[int], verdicts: Verdicts) -> dict[str, int]:
    """Kept rows of each source that a parent brings to learn from."""
    places = {name: slice(ends[i - 1], ends[i]) for i, name in enumerate(names) if name in (REPLAY, REPLAY_VALIDATION)}
    return {name: int(np.isin(verdicts.fates[place], KEPT).sum()) for name, place in places.items()}


def _role(name: str) -> int:
    replayed = {REPLAY: REPLAYED, REPLAY_VALIDATION: REPLAYED_VALIDATION}
    return {dataset.TRAIN: POOL, dataset.VALIDATION: VALIDATION, **replayed}.get(name, MEASURED)


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
    rows |= {name: _size(summary) for name, summary in manifest.splits.items()}
    rows |= {"classes": len(manifest.labels)} if manifest.labels else {}
    rows |= _number_row(manifest.splits[dataset.TRAIN].numbers)
    rows |= {"rejected": findings["rejected"], "dropped": dropped}
    for name in ("duplicates_exact", "duplicates_normalised", "conflicts", "leaked"):
        rows[name.replace("_", " ")] = findings[name]
    encodings = sorted(set(findings["encoding"].values()))
    if manifest.lineage:
        replayed = " + ".join(f"{number:,} {split}" for split, number in manifest.lineage.replayed.items())
        rows |= {"continues": manifest.lineage.parent, "replayed": replayed or "nothing"}
    return rows | ({"encoding": ", ".join(encodings)} if encodings else {})


def _size(summary: SplitSummary) -> int | str:
    return summary.num_rows if summary.num_characters is None else f"{summary.num_characters:,} characters"


def _number_row(numbers: dict[str, float]) -> dict[str, str]:
    if not numbers:
        return {}
    return {
        "numbers": f"{numbers['min']:g} to {numbers['max']:g}, mean {numbers['mean']:.4g}, std {numbers['std']:.4g}"
    }
