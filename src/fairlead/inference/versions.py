"""From the name of a model version to its verified folder on this machine. Imports no torch."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead import places
from fairlead.errors import IntegrityError
from fairlead.formats.model import verify
from fairlead.names import MODEL_MANIFEST, ModelRef
from fairlead.registry import open_registry
from fairlead.registry.records import VersionRecord
from fairlead.storage import open_store
from fairlead.storage.folders import download


def fetch_version(ref: str) -> Path:
    """The folder under `<home>/models` of the version that `ref` names, every file verified.

    `ref` is `project`, `project:3` or `project@alias`. The version is downloaded when it is not there
    yet; a download that was cut short is taken up again. Raises NotFound when the registry or the store
    has no such version, IntegrityError when a file differs from what was registered. A damaged folder
    stays as it is: who tampers with a model should be found out, not tidied up after.
    """
    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse(ref))
    folder = places.home() / "models" / version.project / f"v{version.number:04d}"
    with _alone(folder):
        if folder.exists():
            _check(folder, version)
        else:
            _download(version, folder)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time fetch into `folder`; the lock is gone when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(version: VersionRecord, folder: Path) -> None:
    # A fixed name, so that a later process goes on with what a killed one has fetched.
    partial = folder.parent / f".{folder.name}.partial"
    digests = {name: entry.sha256 for name, entry in version.manifest.files.items()}
    download(open_store(places.store_url()), version.prefix, partial, MODEL_MANIFEST, digests, stage="fetch")
    try:
        _check(partial, version)
    except IntegrityError:
        # What is wrong in the store would only be found again.
        shutil.rmtree(partial)
        raise
    partial.rename(folder)


def _check(folder: Path, version: VersionRecord) -> None:
    manifest = verify(folder)
    if manifest.digest != version.digest:
        raise IntegrityError(
            f"{folder}: its digest is not the one registered as {version.name}; remove the folder to fetch it again"
        )
