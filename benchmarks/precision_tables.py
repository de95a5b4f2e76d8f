"""The precision benchmark's tables, from the records of the optimize stage."""

from collections.abc import Mapping, Sequence

from benchmarks import tables
from fairlead.formats.variants import REFERENCE, OptimizationRecord, VariantRecord
from fairlead.optimization.table import MEGABYTE, times

HEADER = ("workload", "Precision", "Size", "Speed", "of fp32", "Accuracy", "macro F1", "drop at most", "changed")
HEADER += ("load", "memory")


def text(records: Mapping[str, OptimizationRecord], beside: Mapping[str, Sequence[VariantRecord]]) -> str:
    """All of it, as Markdown; `beside` are the variants that were timed in turns with the peer."""
    parts = [tables.markdown(HEADER, [row for name, record in records.items() for row in rows(name, record)])]
    parts += [_chosen(name, record) for name, record in records.items()]
    parts += ["p50 / p99 in milliseconds of a batch, by texts x tokens of each:"]
    parts += [_by_shape(name, record) for name, record in records.items()]
    parts += ["Probabilities of the variant that serves, on the test split:"]
    parts += [_probabilities(records)]
    if beside:
        peers = [_row(name, records[name], v, some[0]) for name, some in beside.items() for v in some]
        parts += [
            "In turns with Optimum's dynamic int8 (`avx512_vnni`) of the same weights:",
            tables.markdown(HEADER, peers),
        ]
    return "\n\n".join(parts)


def rows(name: str, record: OptimizationRecord) -> list[list[str]]:
    """The table's rows of a workload; the variant that serves is set in bold."""
    reference = record.variant(REFERENCE)
    assert reference is not None
    return [_row(name, record, variant, reference) for variant in record.variants]


def _row(name: str, record: OptimizationRecord, variant: VariantRecord, reference: VariantRecord) -> list[str]:
    return [
        name,
        _bold(record, variant),
        f"{(variant.size_bytes or 0) / MEGABYTE:.1f} MB",
        f"{variant.texts_per_second:.0f} texts/s",
        f"{(variant.texts_per_second or 0) / (reference.texts_per_second or 1):.2f}",
        f"{variant.metrics['accuracy']:.4f}",
        f"{variant.metrics['macro_f1']:.4f}",
        "–" if variant.worst_drop is None else f"{variant.worst_drop:.4f}",
        f"{variant.changed_share:.2%}",
        "–" if variant.load_seconds is None else f"{variant.load_seconds:.2f} s",
        "–" if variant.memory_bytes is None else f"{variant.memory_bytes / MEGABYTE:.0f} MB",
    ]


def _bold(record: OptimizationRecord, variant: VariantRecord) -> str:
    return f"**{variant.name}**" if variant.name == record.chosen else variant.name


def _chosen(name: str, record: OptimizationRecord) -> str:
    refused = "; ".join(f"no {variant}: {reason}" for variant, reason in sorted(record.refused.items()))
    facts = [
        f"{name}: `{record.chosen}` serves, {record.reason}",
        f"{record.num_rows:,} validation rows, {record.test}",
    ]
    if record.max_export_difference is not None:
        facts.append(f"Logits of the ONNX file differ from torch's by at most {record.max_export_difference:.1e}")
    return ". ".join([*facts, *([refused] if refused else [])]) + "."


def _by_shape(name: str, record: OptimizationRecord) -> str:
    shapes = [f"{speed.batch} x {speed.length}" for speed in record.variants[0].speeds]
    cells = [[_bold(record, v), *(times(speed) for speed in v.speeds)] for v in record.variants]
    return tables.markdown([name, *shapes], cells)


def _probabilities(records: Mapping[str, OptimizationRecord]) -> str:
    names = ("workload", "temperature", "calibration error", "log loss", "rejected below", "of the test split")
    names += ("right among kept", "right among rejected", "of texts out of scope")
    return tables.markdown(names, [_probability_row(name, record) for name, record in records.items()])


def _probability_row(name: str, record: OptimizationRecord) -> list[str]:
    calibration, rejection, none = record.calibration, record.rejection, ["–"]
    found = [name, f"{record.temperature:.3g}"]
    if calibration:
        found.append(f"{calibration.error_before:.4f} to {calibration.error_after:.4f}")
        found.append(f"{calibration.log_loss_before:.4f} to {calibration.log_loss_after:.4f}")
    else:
        found += none * 2
    if not rejection:
        return found + none * 5
    shares = (1 - rejection.kept_share, rejection.accuracy_kept, rejection.accuracy_rejected, rejection.rejected_share)
    return [
        *found,
        f"{record.rejection_threshold:.3f}",
        *("–" if share is None else f"{share:.1%}" for share in shares),
    ]
