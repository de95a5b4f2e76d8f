"""Which runtimes and precisions this machine can run, and why not the others. Imports no runtime."""

import importlib.util
from functools import cache
from pathlib import Path

from fairlead.formats.variants import PrecisionName, RuntimeName

CPUINFO = Path("/proc/cpuinfo")
# Whether they make it faster is for the optimize stage to measure.
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
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
