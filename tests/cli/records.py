"""A small real registry with two versions that differ in everything that compare looks at."""

from fairlead.formats.dataset import DataManifest, SplitSummary
from fairlead.formats.digests import of_bytes
from fairlead.formats.model import (
    CLASSIFIER_SIGNATURE,
    Code,
    Environment,
    FileEntry,
    ModelManifest,
    TrainingRecord,
    manifest_digest,
)
from fairlead.names import version_name, version_prefix
from fairlead.registry import MetricPoint, Registry, VersionRecord

PROJECT = "support_topics"
LABELS = ["billing", "delivery"]
LOSSES = [2.0, 1.5, 1.0, 0.5]


def add_version(
    registry: Registry, number: int, accuracy: float, learning_rate: float = 3e-4, rows: int = 8
) -> VersionRecord:
    """Record data, run, curve and version, as a pipeline does."""
    data = _data(rows)
    registry.record_data_version(data, f"data/{rows}/")
    record = _training(number, data.digest, learning_rate)
    registry.start_run(
        record.run_id, PROJECT, data.digest, record.tokens_digest, record.config, 0, record.environment, record.code
    )
    registry.log_metrics(record.run_id, [MetricPoint("loss", i, value, float(i)) for i, value in enumerate(LOSSES)])
    registry.finish_run(record.run_id, "finished", weights_digest=record.weights_digest, metrics={"macro_f1": accuracy})
    reservation = registry.reserve_version(PROJECT, of_bytes(str(number).encode()))
    manifest = _manifest(reservation.number, record, data, accuracy)
    return registry.commit_version(manifest, version_prefix(PROJECT, reservation.number))


def _data(rows: int) -> DataManifest:
    counts = {"train": rows, "validation": 2, "test": 2}
    splits = {
        name: SplitSummary(
            num_rows=count,
            digest=of_bytes(f"{name}{count}".encode()),
            label_counts={"billing": count - 1, "delivery": 1},
        )
        for name, count in counts.items()
    }
    return DataManifest(
        digest=of_bytes(f"data {rows}".encode()),
        labels=LABELS,
        splits=splits,
        sources={"train": "tickets.csv"},
        source_digests={"tickets.csv": of_bytes(b"tickets")},
        config={"source": "tickets.csv"},
        findings={"rows_read": rows + 9, "rejected": 2, "rejected_reasons": {"no label": 2}, "duplicates_exact": 3},
    )


def _training(number: int, data_digest: str, learning_rate: float) -> TrainingRecord:
    return TrainingRecord(
        run_id=f"{number:016x}",
        project=PROJECT,
        data_digest=data_digest,
        tokens_digest=of_bytes(b"tokens"),
        weights_digest=of_bytes(f"weights {number}".encode()),
        labels=LABELS,
        max_length=16,
        config={
            "data": {"source": "tickets.csv"},
            "tokenization": {"max_length": 128},
            "model": {"base": "scratch"},
            "training": {"learning_rate": learning_rate, "epochs": 4},
        },
        seed=0,
        steps=4,
        best_step=3,
        validation={"macro_f1": 0.5},
        seconds=1.5,
        environment=Environment(
            python="3.11.7",
            torch="2.13.0+cpu",
            packages_digest=of_bytes(b"packages"),
            hardware="cpu: sample",
            world_size=1,
            num_threads=1,
        ),
        code=Code(package="fairlead 0.1.0", source_digest=of_bytes(b"source"), commit=f"{number:040x}"),
    )


def _manifest(number: int, record: TrainingRecord, data: DataManifest, accuracy: float) -> ModelManifest:
    files = {"model.safetensors": FileEntry(sha256=record.weights_digest, size=7)}
    evaluation = {
        "dataset": "test",
        "dataset_digest": data.splits["test"].digest,
        "num_rows": 2,
        "metrics": {"accuracy": accuracy, "macro_f1": accuracy - 0.1},
        "per_class": {},
        "confusion": [[1, 0], [0, 1]],
        "labels": LABELS,
    }
    return ModelManifest(
        project=PROJECT,
        version=number,
        name=version_name(PROJECT, number),
        created="2026-01-01T00:00:00.000000+00:00",
        digest=manifest_digest(files, LABELS, CLASSIFIER_SIGNATURE, record),
        files=files,
        labels=LABELS,
        signature=CLASSIFIER_SIGNATURE,
        training=record,
        evaluations=[evaluation],
        evaluation_config={"calibration_bins": 15, "gate": {"macro_f1": number / 10}},
    )
