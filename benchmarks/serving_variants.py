"""The benchmark's model as versions that serve one variant each, where no version of the optimize stage is given.

Bit for bit the files that the stage makes: the same export, the same runners.
"""

import shutil
from pathlib import Path

from benchmarks.serving_texts import Workload
from fairlead.formats.atomic import write_json
from fairlead.formats.model import list_files, manifest_digest, read_manifest, signature_of
from fairlead.formats.variants import REFERENCE, VARIANTS, OptimizationRecord, PrecisionName, RuntimeName, VariantRecord
from fairlead.names import MODEL_MANIFEST
from fairlead.variants.availability import unavailable

ONNX, INT8 = f"{VARIANTS}/onnx/model.onnx", f"{VARIANTS}/onnxruntime-int8/model.onnx"
# The best first, as measured on a processor whose bf16 is no faster than its fp32; the last one every machine runs.
FAST: tuple[tuple[RuntimeName, PrecisionName], ...] = (
    ("onnxruntime", "int8"),
    ("openvino", "bf16"),
    ("torch", "fp32"),
)
EQUAL: tuple[tuple[RuntimeName, PrecisionName], ...] = (
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
    ("torch", "fp32"),
)


def version_of(workload: Workload, candidates: tuple[tuple[RuntimeName, PrecisionName], ...]) -> tuple[Path, str]:
    """A version that serves the first of the candidates that this machine can run, and the variant's name."""
    runtime, precision = next((r, p) for r, p in candidates if not unavailable(r, p))
    name = f"{runtime}-{precision}"
    if name == REFERENCE:
        return workload.folder, name
    folder = workload.place / name
    if not (folder / MODEL_MANIFEST).exists():
        _copy(workload.folder, folder)
        _export(workload, folder / ONNX)
        files = [_quantized(folder) if precision == "int8" else ONNX]
        _write(folder, workload, VariantRecord(name=name, runtime=runtime, precision=precision, files=files))
    return folder, name


def _copy(source: Path, folder: Path) -> None:
    """The same files under another manifest."""
    folder.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and path.name != MODEL_MANIFEST and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def _export(workload: Workload, path: Path) -> None:
    from transformers import AutoTokenizer

    from fairlead.optimization.export import export_onnx
    from fairlead.training.models.building import load_classifier

    tokenizer = AutoTokenizer.from_pretrained(workload.folder, local_files_only=True)
    token_ids = tokenizer(workload.texts[:4])["input_ids"]
    export_onnx(load_classifier(workload.folder), token_ids, tokenizer.pad_token_id, path)


def _quantized(folder: Path) -> str:
    """The file in 8 bits, in the place of the one that it was made from."""
    from fairlead.optimization.quantization import quantize_dynamically

    quantize_dynamically(folder / ONNX, folder / INT8)
    (folder / ONNX).unlink()
    return INT8


def _write(folder: Path, workload: Workload, variant: VariantRecord) -> None:
    known = read_manifest(workload.folder)
    reference = VariantRecord(name=REFERENCE, runtime="torch", precision="fp32")
    record = OptimizationRecord(chosen=variant.name, reason="the benchmark asks for it", variants=[reference, variant])
    files = list_files(folder)
    signature = signature_of(known.training.task, record)
    digest = manifest_digest(files, known.labels, signature, known.training, record)
    changes = {"files": files, "signature": signature, "optimization": record, "digest": digest}
    write_json(folder / MODEL_MANIFEST, known.model_copy(update=changes).to_dict())
