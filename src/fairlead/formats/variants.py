"""The variants of a model version: what runs it in which precision, what was measured of each, and which one serves.

The optimize stage leaves this as `optimization.json`; a version keeps it in its manifest under `optimization`.
A variant is named `<runtime>-<precision>`: `torch-fp32` is the registered weights as they are.
"""

from typing import Literal

from pydantic import Field

from fairlead.config import Config

OPTIMIZATION = "optimization.json"
# The folder of a version that holds the files of its variants.
VARIANTS = "variants"

RuntimeName = Literal["torch", "onnxruntime", "openvino"]
PrecisionName = Literal["fp32", "bf16", "fp16", "int8", "int8-static"]
TargetName = Literal["cpu", "gpu", "edge"]

# The variant that every version has.
REFERENCE = "torch-fp32"


class VariantRecord(Config):
    """One variant: how it runs, and what was measured."""

    name: str
    """`<runtime>-<precision>`."""
    runtime: RuntimeName
    """What runs it."""
    precision: PrecisionName
    """Arithmetic of its matrix products."""
    files: list[str] = Field(default_factory=list)
    """Paths in the version's folder that it is loaded from; none where it is made from `model.safetensors`."""


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

    def variant(self, name: str) -> VariantRecord | None:
        """The variant of this name."""
        return next((variant for variant in self.variants if variant.name == name), None)
