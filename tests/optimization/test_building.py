"""What a machine lacks, or a variant cannot do, is said of that variant; the others go on."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fairlead.errors import ConfigError
from fairlead.formats.model import read_training
from fairlead.formats.variants import REFERENCE
from fairlead.optimization.building import FILES, Built, build, record_of
from fairlead.optimization.config import OptimizationConfig
from fairlead.optimization.material import Material, Rows
from fairlead.optimization.optimize import _Measuring, resolve_target
from fairlead.variants.availability import has_gpu
from tests.tiny import make_trained

TEXTS = [[2, 4, 5, 6, 3], [2, 9, 3], [2, 7, 8, 9, 10, 11, 12, 3], [2, 4, 3]]


@pytest.fixture
def material(tmp_path: Path) -> Material:
    model = make_trained(tmp_path / "model")
    rows = Rows(TEXTS, np.zeros(len(TEXTS), np.int32))
    return Material(model, read_training(model), 0, TEXTS, rows, rows)


def test_a_runtime_that_is_not_installed_is_named(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    built = build(material, ["onnxruntime-fp32", "openvino-fp32", "openvino-int8-static"], tmp_path / "out")
    assert [record.name for record in built.variants] == [REFERENCE, "openvino-fp32"]
    assert built.refused == {
        "onnxruntime-fp32": "onnxruntime is not installed (pip install 'fairlead[variants]')",
        "openvino-int8-static": "onnxruntime, which writes it, is not installed",
    }
    assert built.max_export_difference is not None and built.max_export_difference < 1e-4


def test_without_the_exporter_only_the_weights_are_left(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    built = build(material, ["onnxruntime-fp32", "openvino-fp32"], tmp_path / "out")
    assert [record.name for record in built.variants] == [REFERENCE] and len(built.refused) == 2
    assert set(built.refused.values()) == {"onnxscript is not installed (pip install 'fairlead[variants]')"}


def test_a_variant_that_does_not_run_is_refused_and_the_others_are_measured(material: Material, tmp_path: Path) -> None:
    broken = tmp_path / FILES["fp32"]
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no model")
    built = Built([record_of(REFERENCE), record_of("onnxruntime-fp32")])
    measuring = _Measuring(material, OptimizationConfig.parse({"rounds": 1}, "optimization"), tmp_path, "cpu")
    with ThreadPoolExecutor(1) as beside:
        measured = measuring.measure(built, beside)
    assert [variant.name for variant in measured.variants] == [REFERENCE]
    assert measured.variants[0].texts_per_second and "does not run" in built.refused["onnxruntime-fp32"]


def test_a_gpu_that_is_not_there_is_no_target() -> None:
    config = OptimizationConfig.parse({"target": "gpu"}, "optimization")
    if has_gpu():
        assert resolve_target(config) == "gpu"
    else:
        with pytest.raises(ConfigError, match="torch sees no GPU here"):
            resolve_target(config)
