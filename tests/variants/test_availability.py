"""8 bits where a processor's sums of products overflow: 7 bits of weights, or another variant."""

import itertools
import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fairlead.errors import ConfigError
from fairlead.formats.model import read_manifest
from fairlead.formats.variants import REFERENCE
from fairlead.optimization.quantization import quantize_dynamically, quantize_statically
from fairlead.variants import availability
from fairlead.variants.availability import cannot_run, safe_weight_bits
from fairlead.variants.opening import open_runner, variant_to_serve
from tests.variants.conftest import FILES, TEXTS

# Not kept from one processor to the next.
FLAGS = availability._processor_flags.__wrapped__
BEFORE_VNNI = "flags : fpu sse2 avx2 fma avx512f avx512bw"


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Processor":
    return Processor(tmp_path / "cpuinfo", monkeypatch)


class Processor:
    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.path, self.patch = path, patch
        patch.setattr(availability, "CPUINFO", path)

    def is_(self, machine: str, line: str) -> None:
        self.patch.setattr(platform, "machine", lambda: machine)
        self.path.write_text(line + "\n", encoding="utf-8")
        self.patch.setattr(availability, "_processor_flags", FLAGS)


def test_weights_have_7_bits_where_sums_overflow(processor: Processor) -> None:
    cases = {
        ("x86_64", BEFORE_VNNI): 7,
        ("x86_64", BEFORE_VNNI + " avx512_vnni"): 8,
        ("x86_64", BEFORE_VNNI + " avx_vnni"): 8,
        ("AMD64", ""): 7,
        ("aarch64", "Features : asimd"): 8,
    }
    for (machine, line), bits in cases.items():
        processor.is_(machine, line)
        assert safe_weight_bits() == bits, (machine, line)


def test_weights_of_7_bits_never_overflow(version: Path, tmp_path: Path) -> None:
    source = version / FILES["fp32"]
    quantize_dynamically(source, tmp_path / "dynamic.onnx", 7)
    quantize_statically(source, tmp_path / "static.onnx", [TEXTS], 0, 7)
    for name in ("dynamic", "static"):
        tensors = [numpy_helper.to_array(one) for one in onnx.load(tmp_path / f"{name}.onnx").graph.initializer]
        weights = [one.astype(int) for one in tensors if one.dtype == np.int8 and one.size > 1]
        assert weights, name
        assert all(2 * 255 * np.abs(one).max() <= 32_767 for one in weights), name


def test_what_would_overflow_gives_way_to_the_weights(version: Path, processor: Processor) -> None:
    manifest = read_manifest(version)
    record = manifest.optimization
    assert record is not None
    for bits, machine in itertools.product((7, 8, None), ("x86_64", "aarch64")):
        variants = [one.model_copy(update={"weight_bits": bits}) for one in record.variants]
        changed = record.model_copy(update={"chosen": "onnxruntime-int8", "variants": variants})
        served = manifest.model_copy(update={"optimization": changed})
        processor.is_(machine, BEFORE_VNNI)
        overflows = bits != 7 and machine == "x86_64"
        assert variant_to_serve(served) == (REFERENCE if overflows else "onnxruntime-int8")
        assert all(bool(cannot_run(one)) == overflows for one in variants if one.precision == "int8")
        if overflows:
            with pytest.raises(ConfigError, match="no VNNI"):
                open_runner(version, served, "onnxruntime-int8", 0)
