"""From the name of a variant to what runs it."""

import json
import logging
import os
from pathlib import Path

from fairlead.errors import ConfigError
from fairlead.formats.model import ModelManifest
from fairlead.formats.variants import REFERENCE, VariantRecord
from fairlead.variants.availability import cannot_run
from fairlead.variants.contract import Runner

logger = logging.getLogger(__name__)

REFERENCE_RECORD = VariantRecord(name=REFERENCE, runtime="torch", precision="fp32")


def variant_to_serve(manifest: ModelManifest) -> str:
    """The variant that the optimize stage chose; the registered weights where it never ran, or its choice cannot run.

    A version may come to a machine without the runtime or the instructions of the one that it was optimized on.
    """
    record = manifest.optimization
    chosen = record.variant(record.chosen) if record else None
    if chosen is None:
        return REFERENCE
    if reason := cannot_run(chosen):
        logger.warning("%s: %s serves in place of %s: %s", manifest.name, REFERENCE, chosen.name, reason)
        return REFERENCE
    return chosen.name


def open_runner(folder: Path, manifest: ModelManifest, name: str, pad_token_id: int) -> Runner:
    """Load a variant of a version whose files were verified.

    Raises ConfigError when the version has no variant of this name or this machine cannot run it, IntegrityError
    when its files cannot be read.
    """
    known = manifest.optimization.variants if manifest.optimization else []
    record = REFERENCE_RECORD if name == REFERENCE else next((one for one in known if one.name == name), None)
    if record is None or not record.kept:
        names = ", ".join(dict.fromkeys([REFERENCE, *(one.name for one in known if one.kept)]))
        raise ConfigError(f"variant: {manifest.name} has no {name!r}; it has {names}")
    if reason := cannot_run(record):
        raise ConfigError(f"variant: {name} cannot run on this machine: {reason}; ask for {REFERENCE}")
    return open_variant(folder, record, pad_token_id)


def open_variant(
    folder: Path, record: VariantRecord, pad_token_id: int, threads: int | None = None, device: str | None = None
) -> Runner:
    """Load the variant whose files `record` names, relative to `folder`; `threads` are by default one a core.

    `device` is where torch computes: `cpu` or `cuda`, by default the GPU where there is one.
    """
    count = threads or len(os.sched_getaffinity(0))
    if record.runtime == "torch":
        from fairlead.variants.torch_runner import TorchRunner

        return TorchRunner.load(folder, pad_token_id, record.precision, device)
    path = folder / record.files[0]
    if record.runtime == "openvino":
        from fairlead.variants.openvino_runner import OpenVinoRunner

        return OpenVinoRunner.load(path, pad_token_id, record.precision, count, _positions(folder))
    from fairlead.variants.onnx_runner import OnnxRunner

    return OnnxRunner.load(path, pad_token_id, count)


def _positions(folder: Path) -> int:
    """Positions that the model of a folder has; 0 where it does not say."""
    try:
        return int(json.loads((folder / "config.json").read_text("utf-8")).get("max_position_embeddings") or 0)
    except FileNotFoundError:
        return 0
