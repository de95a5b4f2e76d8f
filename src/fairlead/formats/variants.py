"""The variants of a model version: what runs it in which precision, what was measured of each, and which one serves.

The optimize stage leaves this as `optimization.json`; a version keeps it in its manifest under `optimization`.
A variant is named `<runtime>-<precision>`: `torch-fp32` is the registered weights as they are.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fairlead.config import Config
from fairlead.errors import IntegrityError, NotFound

OPTIMIZATION = "optimization.json"
# Its only field where the stage had nothing to do: the reason.
SKIPPED = "skipped"
# The folder of a version that holds the files of its variants.
VARIANTS = "variants"

RuntimeName = Literal["torch", "onnxruntime", "openvino"]
PrecisionName = Literal["fp32", "bf16", "fp16", "int8", "int8-static"]
TargetName = Literal["cpu", "gpu", "edge"]

# The variant that every version has.
REFERENCE = "torch-fp32"


class Speed(Config):
    """How fast a variant answers batches of one shape."""

    batch: int
    """Texts of a batch."""
    length: int
    """Tokens of each text."""
    texts_per_second: float
    """At the median time."""
    p50_seconds: float
    """Median time of a batch."""
    p99_seconds: float
    """99th percentile of it, over `calls`."""
    calls: int
    """Batches that were timed."""


class VariantRecord(Config):
    """One variant: how it runs, and what was measured on the validation split. What was not measured is None."""

    name: str
    """`<runtime>-<precision>`."""
    runtime: RuntimeName
    """What runs it."""
    precision: PrecisionName
    """Arithmetic of its matrix products."""
    weight_bits: int | None = None
    """Bits of weights in int8: 8, or 7, with which sums of products overflow on no processor. None of other precisions,
    and of older releases, which took 8."""
    files: list[str] = Field(default_factory=list)
    """Paths in the version's folder that it is loaded from; none where it is made from `model.safetensors`."""
    kept: bool = True
    """Whether the version can run it; files of others were measured and left behind."""
    size_bytes: int | None = None
    """Size on disk of what it is loaded from."""
    load_seconds: float | None = None
    """Time from files to a model that answers, in a process of its own, without imports."""
    memory_bytes: int | None = None
    """Resident memory of that process after a batch, the runtime's own included."""
    texts_per_second: float | None = None
    """Over validation texts in batches of like length: the median of interleaved rounds."""
    speeds: list[Speed] = Field(default_factory=list)
    """By batch and length."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Metrics of the task on the validation split: accuracy and F1 of classes, r2 of numbers."""
    changed_share: float | None = None
    """Share of texts whose answer differs from the reference's, 0 to 1: another label, other labels, or a number
    that differs by more than a hundredth of the targets' spread."""
    max_difference: float | None = None
    """Greatest difference of an output from the reference's: of logits, or of the number."""
    drop: float | None = None
    """How much of the metric it loses against the reference; negative where it gains."""
    worst_drop: float | None = None
    """Upper bound of the drop at the confidence of the settings."""
    qualifies: bool | None = None
    """Whether `worst_drop` is within the margin."""


class CalibrationRecord(Config):
    """How far probabilities are from frequencies, before and after the temperature, on rows that did not fit it."""

    split: str
    """The data set: test."""
    num_rows: int
    """Rows of it."""
    error_before: float
    """Expected calibration error as the model gives it, 0 to 1."""
    error_after: float
    """The same with the temperature."""
    log_loss_before: float
    """Negative log-likelihood, nats a row, as the model gives it."""
    log_loss_after: float
    """The same with the temperature."""


class RejectionRecord(Config):
    """What the rejection threshold does, on rows that did not choose it."""

    in_scope_share: float
    """Share of the validation split that the threshold was set to keep, 0 to 1."""
    kept_share: float
    """Share of the test split that it keeps."""
    accuracy_kept: float
    """Accuracy on what it keeps of the test split."""
    accuracy_rejected: float | None = None
    """Accuracy on what it rejects; None where it rejects nothing."""
    out_of_scope: str | None = None
    """The data set of texts that belong to no class, when the settings name one."""
    rejected_share: float | None = None
    """Share of that set that it rejects."""


class OptimizationRecord(Config):
    """Which variant serves, why, and how its probabilities are read."""

    format: int = 1
    """Version of this format."""
    target: TargetName = "cpu"
    """What the variants were made for."""
    chosen: str = REFERENCE
    """Name of the variant to serve."""
    reason: str = ""
    """Why that one."""
    temperature: float = Field(1.0, gt=0)
    """What logits are divided by before they become probabilities; 1 leaves them."""
    rejection_threshold: float | None = Field(None, ge=0, le=1)
    """A text whose best probability is below this is out of the classes' scope; None rejects nothing."""
    variants: list[VariantRecord] = Field(default_factory=list)
    """Every variant that was built, the reference among them."""
    refused: dict[str, str] = Field(default_factory=dict)
    """Candidates that were not built or measured, with the reason."""
    metric: str = ""
    """The metric that the margin is about."""
    test: str = ""
    """The statistical test behind `worst_drop`."""
    num_rows: int = 0
    """Rows of the validation split that variants were measured on."""
    calibration: CalibrationRecord | None = None
    """None where there are no probabilities of one class, or it was not asked for."""
    rejection: RejectionRecord | None = None
    """None where nothing is rejected."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The resolved settings of optimization."""
    hardware: str = ""
    """Hardware class that variants were measured on (`cpu: Intel Xeon`)."""
    runtimes: dict[str, str] = Field(default_factory=dict)
    """Versions of the runtimes that built and measured them, by name."""
    max_export_difference: float | None = None
    """Greatest difference of a logit of the exported ONNX file from torch's, on real texts."""

    def variant(self, name: str) -> VariantRecord | None:
        """The variant of this name."""
        return next((variant for variant in self.variants if variant.name == name), None)

    def closure(self) -> dict[str, Any]:
        """What the optimization of given weights is a function of, but for noise: the same one is not done again."""
        return {"config": self.config, "hardware": self.hardware, "runtimes": self.runtimes}

    def identity(self) -> dict[str, Any]:
        """What a version's digest is taken over: what decides answers, and nothing that was measured.

        A time differs with each measurement, and a table of times says nothing about what the version computes.
        """
        decided = ("format", "target", "chosen", "temperature", "rejection_threshold")
        named = ("name", "runtime", "precision", "files", "kept")
        values = self.to_dict()
        variants = [{name: variant[name] for name in named} for variant in values["variants"]]
        return {name: values[name] for name in decided} | self.closure() | {"variants": variants}


def read_optimization(folder: Path) -> OptimizationRecord | None:
    """Read `optimization.json`; None where the stage was skipped. Raises NotFound when it did not run."""
    try:
        values = json.loads((folder / OPTIMIZATION).read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: it holds no {OPTIMIZATION}; run optimize first") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{folder / OPTIMIZATION}: it is not JSON ({error}); run optimize again") from error
    return None if SKIPPED in values else OptimizationRecord.parse(values, where=str(folder))
