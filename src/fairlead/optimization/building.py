"""The files of variants, made from the registered weights.

variants/onnx-fp32/model.onnx          float32; OpenVINO computes in bfloat16 from the same file
variants/onnx-int8/model.onnx          scales of activations found for each batch
variants/onnx-int8-static/model.onnx   found beforehand
"""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.errors import ConfigError
from fairlead.events import Progress
from fairlead.formats.model import WEIGHTS
from fairlead.formats.variants import REFERENCE, VARIANTS, PrecisionName, VariantRecord
from fairlead.optimization.material import Material
from fairlead.optimization.timing import batches
from fairlead.variants.availability import cannot_run, safe_weight_bits, unavailable
from fairlead.variants.opening import open_variant

FILES: dict[PrecisionName, str] = {
    name: f"{VARIANTS}/onnx-{name}/model.onnx" for name in ("fp32", "int8", "int8-static")
}
FILES["bf16"] = FILES["fp32"]
QUANTIZED = ("int8", "int8-static")
# Texts that the exported file is held against torch on, and that the exporter traces.
CHECKED_TEXTS, TRACED_TEXTS = 64, 3
# What torch's exporter needs besides torch.
EXPORTERS = ("onnx", "onnxscript")


@dataclass
class Built:
    """What came of the candidates."""

    variants: list[VariantRecord]
    """The reference first."""
    refused: dict[str, str] = field(default_factory=dict)
    """The other candidates, with the reason."""
    max_export_difference: float | None = None


def record_of(name: str, weight_bits: int | None = None) -> VariantRecord:
    """The record of `<runtime>-<precision>`, with the files that it needs; `weight_bits` of int8."""
    runtime, _, precision = name.partition("-")
    files = [] if runtime == "torch" else [FILES[precision]]  # type: ignore[index]
    bits = weight_bits if precision in QUANTIZED else None
    values = {"name": name, "runtime": runtime, "precision": precision, "weight_bits": bits, "files": files}
    return VariantRecord.parse(values)


def build(material: Material, names: list[str], output: Path, weight_bits: int | None = None) -> Built:
    """Make the files of the candidates under `output`. What this machine cannot run, or make, is refused.

    `weight_bits` of int8 are by default as many as this processor computes with.
    """
    built, bits = Built([record_of(REFERENCE)]), weight_bits or safe_weight_bits()
    for name in names:
        record = record_of(name, bits)
        if reason := cannot_run(record):
            built.refused[name] = reason
        else:
            built.variants.append(record)
    if any(record.files for record in built.variants):
        _write_files(material, built, output)
    return built


def size_of(record: VariantRecord, material: Material, output: Path) -> int:
    """Bytes on disk of what a variant is loaded from."""
    paths = [output / name for name in record.files] or [material.folder / WEIGHTS]
    return sum(path.stat().st_size for path in paths)


def _write_files(material: Material, built: Built, output: Path) -> None:
    wanted = {file for record in built.variants for file in record.files}
    if missing := [name for name in EXPORTERS if importlib.util.find_spec(name) is None]:
        return _refuse(built, wanted, f"{missing[0]} is not installed (pip install 'fairlead[variants]')")
    progress = Progress("optimize", "writing variants", len(wanted | {FILES["fp32"]}), "files")
    progress.begin()
    try:
        built.max_export_difference = _export(material, output)
    except ConfigError as error:
        return _refuse(built, wanted, str(error))
    progress.advance()
    for record in {one.precision: one for one in built.variants if one.precision in QUANTIZED}.values():
        _write_quantized(material, built, output, record)
        progress.advance()
    return None


def _write_quantized(material: Material, built: Built, output: Path, record: VariantRecord) -> None:
    precision, bits = record.precision, record.weight_bits or 8
    if importlib.util.find_spec("onnxruntime") is None:
        return _refuse(built, {FILES[precision]}, "onnxruntime, which writes it, is not installed")
    # It takes a second to import, which a torch variant need not wait for.
    from fairlead.optimization.quantization import quantize_dynamically, quantize_statically

    source, path = output / FILES["fp32"], output / FILES[precision]
    try:
        if precision == "int8":
            quantize_dynamically(source, path, bits)
        else:
            quantize_statically(source, path, batches(material.train, "cpu"), material.pad_token_id, bits)
    # A full disk is no property of the variant.
    except OSError:
        raise
    # The library raises what it likes for an operator that it does not know; the other variants go on.
    except Exception as error:
        _refuse(built, {FILES[precision]}, one_line(f"it cannot be quantized: {type(error).__name__}: {error}"))
    return None


def one_line(message: str) -> str:
    """The beginning of a message of another library, which may go on for pages."""
    return " ".join(message.split())[:200]


def _export(material: Material, output: Path) -> float:
    """Write the float32 file; the greatest difference from torch on real texts."""
    from fairlead.optimization.export import check_export, export_onnx
    from fairlead.training.models.building import load_classifier

    path, texts = output / FILES["fp32"], material.validation.token_ids[:CHECKED_TEXTS]
    model = load_classifier(material.folder)
    export_onnx(model, texts[:TRACED_TEXTS], material.pad_token_id, path)
    runtime = "onnxruntime" if not unavailable("onnxruntime", "fp32") else "openvino"
    runner = open_variant(output, record_of(f"{runtime}-fp32"), material.pad_token_id, 1)
    reference = open_variant(material.folder, record_of(REFERENCE), material.pad_token_id)
    return check_export(runner, reference, batches(texts, "cpu"))


def _refuse(built: Built, files: set[str], reason: str) -> None:
    """Go on without the variants that need one of these files."""
    built.refused |= {record.name: reason for record in built.variants if files & set(record.files)}
    built.variants = [record for record in built.variants if not files & set(record.files)]
