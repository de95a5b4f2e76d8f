"""`auto` becomes what the machine does fast; what was asked for stays."""

from pathlib import Path

import pytest
import torch

from fairlead.errors import ConfigError
from fairlead.training import precision
from fairlead.training.config import TrainConfig

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "gain", "expected"),
    [
        ("fma avx512f avx512_bf16", 2.2, "bf16"),
        ("amx_tile amx_bf16", 6.0, "bf16"),
        # A Xeon whose AMX is hidden.
        ("fma avx512f avx512_bf16", 0.6, "fp32"),
        ("fma avx2 avx512f", 2.2, "fp32"),
    ],
)
def test_auto_is_what_the_processor_has_and_is_faster_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, gain: float, expected: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: gain)
    assert precision.resolve(TrainConfig(precision="auto"), CPU).precision == expected
    assert precision.resolve(TrainConfig(precision="fp32"), CPU).precision == "fp32"


def test_a_machine_that_does_not_say_gets_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "absent")
    assert precision.resolve(TrainConfig(precision="auto"), CPU).precision == "fp32"


def test_fp16_is_refused_on_a_cpu_with_what_to_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: 2.0)
    for flags, instead in (("amx_bf16", "bf16"), ("avx2", "fp32")):
        (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
        monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
        with pytest.raises(ConfigError, match=f"fp16 is for GPUs, and training is on a CPU here; set it to {instead}"):
            precision.check_device(TrainConfig(precision="fp16"), CPU)
    precision.check_device(TrainConfig(precision="fp16"), torch.device("cuda"))
    precision.check_device(TrainConfig(precision="bf16"), CPU)
