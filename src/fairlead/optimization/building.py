"""The files of variants, made from the registered weights.

variants/onnx-fp32/model.onnx          float32; OpenVINO computes in bfloat16 from the same file
variants/onnx-int8/model.onnx          scales of activations found for each batch
variants/onnx-int8-static/model.onnx   found beforehand
"""

from dataclasses import dataclass, field
from pathlib import Path

from fairlead.errors import ConfigError
from fairlead.events import Progress
from fairlead.formats.model import WEIGHTS
from fairlead.formats.variants import REFERENCE, VARIANTS, PrecisionName, VariantRecord
from fairlead.optimization.material import Material
from fairlead.optimization.timing import by_length
from fairlead.variants.availability import unavailable
from fairlead.variants.opening import open_variant

FILES: dict[PrecisionName, str] = {
    name: f"{VARIANTS}/onnx-{name}/model.onnx" for name in ("fp32", "int8", "int8-static")
}
FILES["bf16"] = FILES["fp32"]
# Texts that the exported file is held against torch on, and that the exporter traces.
CHECKED_TEXTS, TRACED_TEXTS = 64, 3


@dataclass
class Built:
    """What came of the candidates."""

    variants: list[VariantRecord]
    """The reference first."""
    refused: dict[str, str] = field(default_factory=dict)
    """The other candidates, with the reason."""
    max_export_difference: float | None = None


def record_of(name: str) -> VariantRecord:
    """The record of `<runtime>-<precision>`, with the files that it needs."""
    runtime, _, precision = name.partition("-")
    files = [] if runtime == "torch" else [FILES[precision]]  # type: ignore[index]
    return VariantRecord.parse({"name": name, "runtime": runtime, "precision": precision, "files": files})


def build(material: Material, names: list[str], output: Path) -> Built:
    """Make the files of the candidates under `output`. What this machine cannot run, or make, is refused."""
    built = Built([record_of(REFERENCE)])
    for name in names:
        record = record_of(name)
        if reason := unavailable(record.runtime, record.precision):
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
    progress = Progress("optimize", "writing variants", len(wanted | {FILES["fp32"]}), "files")
    progress.begin()
    try:
        built.max_export_difference = _export(material, output)
    except ConfigError as error:
        _refuse(built, str(error))
        return
    progress.advance()
    # These import onnxruntime, which takes a second that a torch variant need not wait for.
    from fairlead.optimization.quantization import quantize_dynamically, quantize_statically

    source = output / FILES["fp32"]
    if FILES["int8"] in wanted:
        quantize_dynamically(source, output / FILES["int8"])
        progress.advance()
    if FILES["int8-static"] in wanted:
        batches = [[material.train[index] for index in batch] for batch in by_length(material.train)]
        quantize_statically(source, output / FILES["int8-static"], batches, material.pad_token_id)
        progress.advance()


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
    return check_export(runner, reference, [[texts[index] for index in batch] for batch in by_length(texts)])


def _refuse(built: Built, reason: str) -> None:
    """Go on without the variants that need files."""
    built.refused |= {record.name: reason for record in built.variants if record.files}
    built.variants = [record for record in built.variants if not record.files]
