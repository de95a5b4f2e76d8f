"""Where data and base models come from: an address becomes a local file or folder."""

from pathlib import Path

from fairlead.errors import ConfigError, NotFound
from fairlead.formats.digests import of_file, of_json
from fairlead.storage.folders import file_names
from fairlead.storage.redaction import redact

__all__ = ["fingerprint", "localize", "redact"]


def localize(address: str, into: Path, stage: str = "storage") -> Path:
    """The file or folder that `address` names, downloaded under `into` unless it is local."""
    if "://" in address:
        raise ConfigError(f"{redact(address)}: this kind of address is not supported; use a path")
    return _existing(address)


def fingerprint(address: str, stage: str = "storage") -> str:
    """`sha256:<hex>` that changes when what `address` names changes: its content, or its etag or revision."""
    if "://" in address:
        raise ConfigError(f"{redact(address)}: this kind of address is not supported; use a path")
    path = _existing(address)
    if path.is_file():
        return of_file(path)
    return of_json({name: of_file(path / name) for name in file_names(path)})


def _existing(address: str) -> Path:
    path = Path(address).expanduser().absolute()
    if not path.exists():
        raise NotFound(f"{address}: there is no such file or folder; check the path")
    return path
