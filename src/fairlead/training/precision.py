"""Which arithmetic forward and backward passes use on the machine at hand, and whether they are compiled."""

from pathlib import Path

import torch

from fairlead.errors import ConfigError
from fairlead.training.config import TrainConfig
from fairlead.training.launching.calibration import bfloat16_gain

CPUINFO = Path("/proc/cpuinfo")
# Without them bfloat16 is converted number by number.
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
# Seen: 2.2 (AVX512-BF16 of AMD), 6 to 8 (AMX), 0.5 to 0.6 (AVX512-BF16 of Intel); the bound is far from all of them.
LEAST_GAIN = 1.2
# A minute of compiling by the 12 ms that fused kernels would have to save in each step of a GPU; not measured.
LEAST_STEPS = 5000


def resolve(config: TrainConfig, device: torch.device) -> TrainConfig:
    """`config` with `auto` replaced by what `device` does fast, so that a run's record says what was used."""
    if config.precision != "auto":
        return config
    return config.model_copy(update={"precision": "bf16" if has_fast_bf16(device) else "fp32"})


def resolve_compile(config: TrainConfig, device: torch.device, num_steps: int) -> TrainConfig:
    """`config` with `compile: auto` replaced by what pays on `device` over so many steps, for the run's record.

    On a CPU compiled layers were measured to be slower for packed texts and faster for a language model; `auto` leaves
    it to the user there (docs/training.md).
    """
    if config.compile != "auto":
        return config
    pays = device.type == "cuda" and num_steps >= LEAST_STEPS and config.parallel == "ddp"
    return config.model_copy(update={"compile": "on" if pays else "off"})


def check_device(config: TrainConfig, device: torch.device) -> None:
    """Raise ConfigError for arithmetic that `device` is not for."""
    if config.precision == "fp16" and device.type == "cpu":
        instead = "bf16" if has_fast_bf16(device) else "fp32"
        raise ConfigError(f"training.precision: fp16 is for GPUs, and training is on a CPU here; set it to {instead}")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for bfloat16, and on a CPU whether they are measured to be the faster ones."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        lines = CPUINFO.read_text("utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return not BF16_FLAGS.isdisjoint(flags) and bfloat16_gain() >= LEAST_GAIN
