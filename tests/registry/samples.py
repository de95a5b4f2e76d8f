"""Records as the other stages leave them, small and complete."""

from typing import Any

from fairlead.formats.dataset import DataManifest, SplitSummary
from fairlead.formats.digests import of_bytes
from fairlead.formats.model import (
    Code,
    Environment,
    FileEntry,
    ModelManifest,
    TrainingRecord,
    make_manifest,
)
from fairlead.names import version_prefix
from fairlead.registry import Promotion, Registry, VersionRecord

LABELS = ["no", "yes"]
TEST_DIGEST = of_bytes(b"test rows")
DATA_DIGEST = of_bytes(b"data")
TOKENS_DIGEST = of_bytes(b"tokens")
CONFIG: dict[str, Any] = {
    "data": {"source": "a.csv"},
    "tokenization": {"max_length": 16},
    "model": {"base": "scratch"},
    "training": {"learning_rate": 0.001, "processes": None},
}
ENVIRONMENT = Environment(
    python="3.11.7",
    torch="2.13.0+cpu",
    packages_digest=of_bytes(b"packages"),
    hardware="cpu: sample",
    world_size=1,
    num_threads=1,
)
CODE = Code(package="fairlead 0.1.0", source_digest=of_bytes(b"source"))


def data_manifest(digest: str = DATA_DIGEST) -> DataManifest:
    def split(name: str, num_rows: int) -> SplitSummary:
        return SplitSummary(num_rows=num_rows, digest=of_bytes(f"{name} rows".encode()), label_counts={"no": num_rows})

    return DataManifest(
        digest=digest,
        labels=LABELS,
        splits={"train": split("train", 8), "validation": split("validation", 2), "test": split("test", 2)},
        sources={"train": "a.csv"},
        source_digests={"a.csv": of_bytes(b"a.csv")},
        config={"source": "a.csv"},
        findings={"rows_read": 12},
    )


def training(
    run_id: str = "run-1", project: str = "topics", weights: bytes = b"weights", config: dict[str, Any] = CONFIG
) -> TrainingRecord:
    return TrainingRecord(
        run_id=run_id,
        project=project,
        data_digest=DATA_DIGEST,
        tokens_digest=TOKENS_DIGEST,
        weights_digest=of_bytes(weights),
        labels=LABELS,
        max_length=16,
        config=config,
        seed=0,
        steps=4,
        best_step=4,
        validation={"macro_f1": 0.5},
        seconds=1.5,
        environment=ENVIRONMENT,
        code=CODE,
    )


def evaluation(metrics: dict[str, float] | None = None, dataset_digest: str = TEST_DIGEST) -> dict[str, Any]:
    score = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}
    return {
        "dataset": "test",
        "dataset_digest": dataset_digest,
        "num_rows": 2,
        "metrics": metrics or {"accuracy": 0.9, "macro_f1": 0.8, "log_loss": 0.4},
        "per_class": {"no": score, "yes": score},
        "confusion": [[1, 0], [0, 1]],
        "labels": LABELS,
    }


def manifest(number: int, record: TrainingRecord, evaluations: list[dict[str, Any]] | None = None) -> ModelManifest:
    files = {"model.safetensors": FileEntry(sha256=record.weights_digest, size=7)}
    judged = evaluations if evaluations is not None else [evaluation()]
    return make_manifest(number, "2026-01-01T00:00:00.000000+00:00", record, files, evaluations=judged)


def start_run(registry: Registry, run_id: str = "run-1", project: str = "topics") -> None:
    registry.start_run(run_id, project, DATA_DIGEST, TOKENS_DIGEST, CONFIG, 0, ENVIRONMENT, CODE)


def add_version(
    registry: Registry,
    closure: str,
    metrics: dict[str, float] | None = None,
    promotion: Promotion | None = None,
    weights: bytes | None = None,
    config: dict[str, Any] = CONFIG,
) -> VersionRecord:
    """One whole registration, without files."""
    start_run(registry)
    registry.record_data_version(data_manifest(), "data/x/")
    reservation = registry.reserve_version("topics", closure)
    record = training(weights=weights or closure.encode(), config=config)
    content = manifest(reservation.number, record, [evaluation(metrics)])
    return registry.commit_version(content, version_prefix("topics", reservation.number), promotion)
