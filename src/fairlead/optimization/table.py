"""The precision table: what of each variant people are shown."""

from typing import Any

from fairlead.formats.variants import OptimizationRecord, VariantRecord

MEGABYTE = 1e6


def rows(record: OptimizationRecord) -> list[dict[str, Any]]:
    """One row a variant: Precision, Size, Speed, Accuracy, and what else was measured; None is unknown."""
    return [_row(record, variant) for variant in record.variants]


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
    return rows


def _row(record: OptimizationRecord, variant: VariantRecord) -> dict[str, Any]:
    return {
        "precision": variant.name + (" *" if variant.name == record.chosen else ""),
        "size MB": _scaled(variant.size_bytes, MEGABYTE),
        "texts/s": _rounded(variant.texts_per_second),
        record.metric or "accuracy": variant.metrics.get(record.metric),
        "macro F1": variant.metrics.get("macro_f1"),
        "drop at most": variant.worst_drop,
        "changed": variant.changed_share,
        "max difference": variant.max_difference,
        "load s": variant.load_seconds,
        "memory MB": _scaled(variant.memory_bytes, MEGABYTE),
    }


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else round(value / unit, 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
