"""A registered version over real ingested data, its weights any bytes: what incremental ingest goes on from."""

from pathlib import Path

from fairlead.data.config import DataConfig
from fairlead.data.ingest import ingest, localize_sources, publish_data
from fairlead.formats.dataset import DataManifest
from fairlead.formats.digests import of_bytes
from fairlead.formats.model import FileEntry, make_manifest
from fairlead.names import version_prefix
from fairlead.registry import VersionRecord, open_registry
from tests.registry import samples

COLOURS = {"red": ["rose", "brick", "cherry"], "blue": ["sky", "sea", "ink"], "green": ["leaf", "grass", "moss"]}


def sentences(label: str, first: int, count: int) -> list[str]:
    words = COLOURS.get(label, [label])
    return [f"{words[i % len(words)]} number {i}" for i in range(first, first + count)]


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("\n".join(["text,label", *(f"{text},{label}" for text, label in rows)]) + "\n")
    return path


def write_colours(path: Path, first: int, count: int, labels: tuple[str, ...] = tuple(COLOURS)) -> Path:
    return write_csv(path, [(text, label) for label in labels for text in sentences(label, first, count)])


def register_over(folder: Path, source: Path, labels: list[str] | None = None, project: str = "topics") -> DataManifest:
    """Ingest `source`, and register a version that says it was trained on it, with its classes in this order."""
    config = DataConfig.parse({"source": str(source)})
    manifest = ingest(config, localize_sources(config, "digest"), folder)
    publish_data(manifest, folder)
    commit(manifest, labels or manifest.labels, project)
    return manifest


def commit(data: DataManifest, labels: list[str], project: str) -> VersionRecord:
    with open_registry() as registry:
        record = samples.training(run_id=f"run-{data.digest[-6:]}", project=project).model_copy(
            update={"data_digest": data.digest, "labels": labels}
        )
        registry.start_run(record.run_id, project, data.digest, "t", record.config, 0, record.environment, record.code)
        registry.finish_run(record.run_id, "finished", weights_digest=record.weights_digest)
        number = registry.reserve_version(project, data.digest).number
        files = {"model.safetensors": FileEntry(sha256=of_bytes(b"weights"), size=7)}
        manifest = make_manifest(number, "2026-01-01T00:00:00+00:00", record, files)
        return registry.commit_version(manifest, version_prefix(project, number))
