"""One tiny version a session, with its ONNX file and both 8-bit ones in the places where a version has them."""

from pathlib import Path

import pytest

from fairlead.formats.atomic import write_json
from fairlead.formats.model import list_files, manifest_digest, read_manifest
from fairlead.formats.variants import OptimizationRecord, VariantRecord
from fairlead.names import MODEL_MANIFEST
from fairlead.optimization.export import export_onnx
from fairlead.optimization.quantization import quantize_dynamically, quantize_statically
from fairlead.training.models.building import load_classifier
from fairlead.variants.availability import safe_weight_bits
from tests.tiny import make_version

TEXTS = [[2, 4, 5, 6, 3], [2, 9, 3], [2, 7, 8, 9, 10, 11, 12, 3], [2, 3]]
FILES = {"fp32": "variants/onnx-fp32/model.onnx", "bf16": "variants/onnx-fp32/model.onnx"}
FILES |= {"int8": "variants/onnx-int8/model.onnx", "int8-static": "variants/onnx-int8-static/model.onnx"}
NAMES = ["torch-bf16", "onnxruntime-fp32", "onnxruntime-int8", "onnxruntime-int8-static", "openvino-fp32"]
NAMES += ["openvino-bf16", "openvino-int8-static"]


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_version(tmp_path_factory.mktemp("versions") / "tiny")
    fp32 = folder / FILES["fp32"]
    export_onnx(load_classifier(folder), TEXTS[:3], 0, fp32)
    quantize_dynamically(fp32, folder / FILES["int8"], safe_weight_bits())
    quantize_statically(fp32, folder / FILES["int8-static"], [TEXTS], 0, safe_weight_bits())
    manifest = read_manifest(folder)
    files = list_files(folder)
    record = OptimizationRecord(variants=[_record(name) for name in NAMES])
    digest = manifest_digest(files, manifest.labels, manifest.signature, manifest.training, record)
    changed = manifest.model_copy(update={"files": files, "optimization": record, "digest": digest})
    write_json(folder / MODEL_MANIFEST, changed.to_dict())
    return folder


def _record(name: str) -> VariantRecord:
    runtime, _, precision = name.partition("-")
    files = [] if runtime == "torch" else [FILES[precision]]
    bits = safe_weight_bits() if precision.startswith("int8") else None
    values = {"name": name, "runtime": runtime, "precision": precision, "weight_bits": bits, "files": files}
    return VariantRecord.parse(values)
