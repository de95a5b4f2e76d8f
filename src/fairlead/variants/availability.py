"""Which runtimes and precisions this machine can run, and why not the others. Imports no runtime."""

import importlib.util
import platform
from functools import cache
from pathlib import Path

from fairlead.formats.variants import PrecisionName, RuntimeName, VariantRecord

CPUINFO = Path("/proc/cpuinfo")
# Whether they make it faster is for the optimize stage to measure.
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
# With these an x86 processor adds up products of 8 bits in 32. Without, runtimes add them in pairs of 16 (vpmaddubsw),
# where 2 x 255 x 127 overflows and is cut off, and 2 x 255 x 64, of weights of 7 bits, fits.
VNNI_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}
X86 = ("x86_64", "amd64", "i386", "i686")
PACKAGES: dict[RuntimeName, str] = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
PRECISIONS: dict[RuntimeName, tuple[PrecisionName, ...]] = {
    "torch": ("fp32", "bf16", "fp16"),
    "onnxruntime": ("fp32", "int8", "int8-static"),
    # It reads the dynamic form too, at a third of the speed of the static one.
    "openvino": ("fp32", "bf16", "int8-static"),
}


def unavailable(runtime: RuntimeName, precision: PrecisionName) -> str:
    """Why this machine cannot run a model so; empty where it can."""
    if importlib.util.find_spec(PACKAGES[runtime]) is None:
        return f"{PACKAGES[runtime]} is not installed (pip install 'fairlead[variants]')"
    if precision not in PRECISIONS[runtime]:
        return f"{runtime} has no {precision} here"
    if precision == "bf16" and not _has_bf16(runtime):
        return "the processor has no instructions for bfloat16"
    if precision == "fp16" and not has_gpu():
        return "float16 is for a GPU, and there is none"
    return ""


def cannot_run(variant: VariantRecord) -> str:
    """Why this machine cannot run a variant, or not with the answers that were measured; empty where it can."""
    if reason := unavailable(variant.runtime, variant.precision):
        return reason
    if variant.precision.startswith("int8") and (variant.weight_bits or 8) > safe_weight_bits():
        return "the processor has no VNNI instructions, and sums of products of 8-bit weights overflow without them"
    return ""


def safe_weight_bits() -> int:
    """Bits of weights in int8 with which this processor computes what the file says: 8 or 7."""
    is_x86 = platform.machine().lower() in X86
    return 7 if is_x86 and VNNI_FLAGS.isdisjoint(_processor_flags()) else 8


def _has_bf16(runtime: RuntimeName) -> bool:
    if runtime == "torch" and has_gpu():
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not BF16_FLAGS.isdisjoint(_processor_flags())


@cache
def _processor_flags() -> frozenset[str]:
    try:
        lines = CPUINFO.read_text("utf-8").splitlines()
    except OSError:
        return frozenset()
    # What x86 calls flags, ARM calls Features.
    named = (line.partition(":") for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next((values.split() for _, _, values in named), []))


@cache
def has_gpu() -> bool:
    """Whether torch sees a GPU."""
    import torch

    return bool(torch.cuda.is_available())
