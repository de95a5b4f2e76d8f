"""The precision table: what of each variant people are shown."""

from typing import Any

from fairlead.formats.variants import OptimizationRecord, Speed, VariantRecord

MEGABYTE, MILLISECOND = 1e6, 1e-3


def rows(record: OptimizationRecord) -> list[dict[str, Any]]:
    """One row a variant: Precision, Size, Speed, Accuracy, and what else was measured; None is unknown."""
    return [_row(record, variant) for variant in record.variants]


def speeds(record: OptimizationRecord) -> list[dict[str, Any]]:
    """One row a variant: p50 / p99 in milliseconds of a batch, by `texts x tokens of each`."""
    return [
        {"precision": _marked(record, variant)}
        | {f"{speed.batch} x {speed.length}": times(speed) for speed in variant.speeds}
        for variant in record.variants
        if variant.speeds
    ]


def times(speed: Speed) -> str:
    """Its p50 and p99 in milliseconds."""
    both = (speed.p50_seconds / MILLISECOND, speed.p99_seconds / MILLISECOND)
    return " / ".join(f"{time:.3g}" if time < 1000 else f"{time:.0f}" for time in both)


def summary(record: OptimizationRecord) -> dict[str, Any]:
    """What was found, in a few rows."""
    chosen, found = record.variant(record.chosen), {"chosen": record.chosen, "why": record.reason}
    rows: dict[str, Any] = found | {"variants": len(record.variants)}
    if chosen and chosen.texts_per_second:
        rows |= {"texts/s": round(chosen.texts_per_second, 1)}
    if record.calibration:
        before, after = record.calibration.error_before, record.calibration.error_after
        rows |= {"temperature": record.temperature, "calibration error": f"{before:.4f} to {after:.4f}"}
    if record.rejection_threshold is not None:
        rows |= {"rejected below": round(record.rejection_threshold, 4)}
    if record.rejection and record.rejection.rejected_share is not None:
        rows |= {f"rejected of {record.rejection.out_of_scope}": f"{record.rejection.rejected_share:.1%}"}
    if record.max_export_difference is not None:
        rows |= {"ONNX against torch": f"logits differ by at most {record.max_export_difference:.2g}"}
    return rows


def _row(record: OptimizationRecord, variant: VariantRecord) -> dict[str, Any]:
    return {
        "precision": _marked(record, variant),
        "size MB": _shown(variant.size_bytes, ".1f", MEGABYTE),
        "texts/s": _shown(variant.texts_per_second, ".1f"),
        record.metric or "accuracy": variant.metrics.get(record.metric),
        "macro F1": variant.metrics.get("macro_f1"),
        "drop at most": variant.worst_drop,
        "changed": _shown(variant.changed_share, ".2%"),
        "max difference": _shown(variant.max_difference, ".2g"),
        "load s": _shown(variant.load_seconds, ".2f"),
        "memory MB": _shown(variant.memory_bytes, ".0f", MEGABYTE),
    }


def _marked(record: OptimizationRecord, variant: VariantRecord) -> str:
    return variant.name + (" *" if variant.name == record.chosen else "")


def _shown(value: float | None, form: str, unit: float = 1) -> str | None:
    """In so many digits as were measured: tables give every other number four."""
    return None if value is None else format(value / unit, form)
