"""From the name of a variant to what runs it."""

from pathlib import Path

from fairlead.errors import ConfigError
from fairlead.formats.model import ModelManifest
from fairlead.formats.variants import REFERENCE
from fairlead.variants.contract import Runner


def variant_to_serve(manifest: ModelManifest) -> str:
    """The variant that the optimize stage chose; the registered weights where it never ran."""
    return manifest.optimization.chosen if manifest.optimization else REFERENCE


def open_runner(folder: Path, manifest: ModelManifest, name: str, pad_token_id: int) -> Runner:
    """Load a variant of a version whose files were verified.

    Raises ConfigError when the version has no variant of this name, IntegrityError when its files cannot be read.
    """
    if name == REFERENCE:
        from fairlead.variants.torch_runner import TorchRunner

        return TorchRunner.load(folder, pad_token_id)
    known = [variant.name for variant in manifest.optimization.variants] if manifest.optimization else []
    names = ", ".join(dict.fromkeys([REFERENCE, *known]))
    raise ConfigError(f"variant: {manifest.name} has no {name!r}; it has {names}")
