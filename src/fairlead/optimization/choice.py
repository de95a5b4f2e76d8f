"""Which variant serves: the fastest that is shown to be no worse than the registered weights by more than a margin."""

from collections.abc import Sequence

from fairlead.formats.variants import REFERENCE, VariantRecord
from fairlead.optimization.config import OptimizationConfig

# Speeds this near each other change places from one measurement to the next.
AS_FAST = 0.03


def choose(variants: Sequence[VariantRecord], config: OptimizationConfig, target: str) -> tuple[str, str]:
    """Name of the variant to serve, and why.

    For the targets cpu and gpu the fastest that qualifies, for edge the smallest. Of those within 3 % of it the one
    that changes fewest answers is taken, then the smaller: near ties would be decided by noise otherwise.
    """
    reference = next(variant for variant in variants if variant.name == REFERENCE)
    able = [variant for variant in variants if variant.qualifies or variant is reference]
    if len(able) == 1:
        return REFERENCE, _nothing_qualifies(variants, config)
    by_size = target == "edge"
    best = min((_cost(variant, by_size) for variant in able), default=0.0)
    near = [variant for variant in able if _cost(variant, by_size) <= best * (1 + AS_FAST)]
    chosen = min(near, key=lambda variant: (variant.changed_share or 0.0, *_then(variant, by_size)))
    return chosen.name, _reason(chosen, reference, by_size, config)


def _cost(variant: VariantRecord, by_size: bool) -> float:
    return float(variant.size_bytes or 0) if by_size else 1 / (variant.texts_per_second or 1e-9)


def _then(variant: VariantRecord, by_size: bool) -> tuple[float, float]:
    return _cost(variant, not by_size), _cost(variant, by_size)


def _nothing_qualifies(variants: Sequence[VariantRecord], config: OptimizationConfig) -> str:
    if len(variants) == 1:
        return "no other variant could be built here"
    bounds = ", ".join(f"{one.name} {one.worst_drop:.4f}" for one in variants if one.worst_drop is not None)
    return (
        f"no variant is shown to lose at most {config.max_drop:g} at confidence {config.confidence:g} "
        f"(upper bounds of the drop: {bounds})"
    )


def _reason(chosen: VariantRecord, reference: VariantRecord, by_size: bool, config: OptimizationConfig) -> str:
    if chosen is reference:
        return f"no variant that may lose at most {config.max_drop:g} is {'smaller' if by_size else 'faster'}"
    gain = (reference.size_bytes or 0) / (chosen.size_bytes or 1) if by_size else _speedup(chosen, reference)
    how = "smaller" if by_size else "faster"
    return (
        f"{gain:.2f} times {how} than {REFERENCE}, and loses at most {chosen.worst_drop:.4f} "
        f"at confidence {config.confidence:g} (allowed: {config.max_drop:g})"
    )


def _speedup(chosen: VariantRecord, reference: VariantRecord) -> float:
    return (chosen.texts_per_second or 0.0) / (reference.texts_per_second or 1.0)
