"""Which runtimes and precisions this machine can run, and why not the others. Imports no runtime."""

import importlib.util
from functools import cache

from fairlead.formats.variants import PrecisionName, RuntimeName

PACKAGES: dict[RuntimeName, str] = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
PRECISIONS: dict[RuntimeName, tuple[PrecisionName, ...]] = {
    "torch": ("fp32", "bf16", "fp16"),
    "onnxruntime": ("fp32", "int8", "int8-static"),
    "openvino": ("fp32", "bf16", "int8", "int8-static"),
}


def unavailable(runtime: RuntimeName, precision: PrecisionName) -> str:
    """Why this machine cannot run a model so; empty where it can."""
    if importlib.util.find_spec(PACKAGES[runtime]) is None:
        return f"{PACKAGES[runtime]} is not installed (pip install 'fairlead[variants]')"
    if precision not in PRECISIONS[runtime]:
        return f"{runtime} has no {precision} here"
    if precision == "bf16" and not _has_bf16(runtime):
        return "the processor has no instructions for bfloat16"
    if precision == "fp16" and not _has_gpu():
        return "float16 is for a GPU, and there is none"
    return ""


@cache
def _has_bf16(runtime: RuntimeName) -> bool:
    import torch

    from fairlead.training.precision import has_fast_bf16

    # OpenVINO runs on the processor even where there is a GPU.
    return has_fast_bf16(torch.device("cuda" if runtime == "torch" and _has_gpu() else "cpu"))


@cache
def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())
