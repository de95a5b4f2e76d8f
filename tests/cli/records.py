"""A small real registry with two versions that differ in everything that compare looks at."""

from fairlead.formats.dataset import DataManifest, SplitSummary
from fairlead.formats.digests import of_bytes
from fairlead.formats.model import ModelManifest, TrainingRecord
from fairlead.names import version_prefix
from fairlead.registry import MetricPoint, Registry, VersionRecord
from tests.registry import samples

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
    findings = {"rows_read": rows + 9, "rejected": 2, "rejected_reasons": {"no label": 2}, "duplicates_exact": 3}
    sample = samples.data_manifest(of_bytes(f"data {rows}".encode()))
    sources = {"sources": {"train": "tickets.csv"}, "source_digests": {"tickets.csv": of_bytes(b"tickets")}}
    described = {"labels": LABELS, "splits": splits, "config": {"source": "tickets.csv"}, "findings": findings}
    return sample.model_copy(update=sources | described)


def _training(number: int, data_digest: str, learning_rate: float) -> TrainingRecord:
    config = {
        "data": {"source": "tickets.csv"},
        "tokenization": {"max_length": 128},
        "model": {"base": "scratch"},
        "training": {"learning_rate": learning_rate, "epochs": 4},
    }
    record = samples.training(f"{number:016x}", PROJECT, f"weights {number}".encode(), config)
    code = samples.CODE.model_copy(update={"commit": f"{number:040x}"})
    return record.model_copy(update={"data_digest": data_digest, "labels": LABELS, "best_step": 3, "code": code})


def _manifest(number: int, record: TrainingRecord, data: DataManifest, accuracy: float) -> ModelManifest:
    evaluation = {
        "dataset": "test",
        "dataset_digest": data.splits["test"].digest,
        "num_rows": 2,
        "metrics": {"accuracy": accuracy, "macro_f1": accuracy - 0.1},
        "per_class": {},
        "confusion": [[1, 0], [0, 1]],
        "labels": LABELS,
    }
    judged = {"evaluation_config": {"calibration_bins": 15, "gate": {"macro_f1": number / 10}}}
    return samples.manifest(number, record, [evaluation]).model_copy(update=judged)
