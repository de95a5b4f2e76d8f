"""Settings of the optimize stage."""

from typing import Literal

from pydantic import Field, field_validator

from fairlead.config import Config
from fairlead.formats.variants import TargetName

# What is tried for each target, beside the registered weights. On edge a runtime of a few megabytes counts, and
# torch has hundreds.
CANDIDATES: dict[TargetName, tuple[str, ...]] = {
    "cpu": (
        "torch-bf16",
        "onnxruntime-fp32",
        "onnxruntime-int8",
        "onnxruntime-int8-static",
        "openvino-fp32",
        "openvino-bf16",
        "openvino-int8-static",
    ),
    "gpu": ("torch-bf16", "torch-fp16"),
    "edge": ("onnxruntime-fp32", "onnxruntime-int8", "onnxruntime-int8-static", "openvino-int8-static"),
}


class OptimizationConfig(Config):
    """Which variants of a model are built and measured, and how the one to serve is picked."""

    enabled: bool = True
    """Whether variants are built and measured; without, the registered weights serve. Default true."""
    target: Literal["auto", "cpu", "gpu", "edge"] = "auto"
    """What the model is to serve on; `edge` takes the smallest variant in place of the fastest. Default `auto`: `gpu`
    where there is one, else `cpu`."""
    candidates: list[str] = Field(default_factory=list)
    """Variants to try, `<runtime>-<precision>`: torch-bf16, onnxruntime-int8. Default: all of the target."""
    max_drop: float = Field(0.01, ge=0, le=1)
    """Points of the metric (accuracy; micro F1 of sets of labels; r2 of numbers) that a variant may lose against fp32,
    0 to 1. Default 0.01."""
    confidence: float = Field(0.95, ge=0.5, lt=1)
    """Confidence with which the drop has to be below max_drop, 0.5 to below 1. Default 0.95."""
    max_rows: int = Field(2000, ge=1)
    """Rows of the validation split that variants are measured on, spread evenly over it. Default 2,000."""
    calibration_rows: int = Field(256, ge=1, le=100_000)
    """Texts of the training split from which static int8 takes the ranges of activations. Default 256."""
    weight_bits: int | None = Field(None, ge=7, le=8)
    """Bits of weights in int8, 7 or 8. With 7, sums of products overflow on no processor; with 8 they do on x86 without
    VNNI instructions, which then serves the registered weights. Default: what the processor that optimizes needs."""
    rounds: int = Field(5, ge=1, le=1000)
    """Times that every variant is timed, one after the other in each round. Default 5."""
    threads: int = Field(1, ge=1, le=1024)
    """Threads that a variant is timed with. Default 1: speeds are those of one core."""
    keep: Literal["chosen", "all"] = "chosen"
    """Whose files the version holds: those of the variant that serves, or of all that were built. Variants that need
    no other files can always run. Default `chosen`."""
    calibrate: bool = True
    """Whether probabilities of classes are calibrated by a temperature. Default true."""
    in_scope_share: float = Field(0.99, gt=0, lt=1)
    """Share of the validation split that the rejection threshold keeps, above 0 to below 1; a text whose best
    probability is below it is answered with `rejected`. Default 0.99."""
    reject: bool = True
    """Whether there is a rejection threshold, for one label a text. Default true."""
    out_of_scope: str | None = None
    """Name of a further data set (`data.extra`) of texts that belong to no class: the share of it that is rejected is
    reported. Default: none."""

    @field_validator("candidates")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        known = dict.fromkeys(name for names in CANDIDATES.values() for name in names)
        for name in value:
            if name not in known:
                raise ValueError(f"there is no variant {name!r}, there are {', '.join(known)}")
        return value
