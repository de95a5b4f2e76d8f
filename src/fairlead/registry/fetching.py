"""From the name of a model version, or the digest of a data version, to its verified folder on this machine.

`model.base` may name a registered version as well: `fairlead://support_topics:3`. Imports no torch.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairlead import places
from fairlead.errors import IntegrityError
from fairlead.formats import dataset
from fairlead.formats.digests import short
from fairlead.formats.model import ModelManifest, parse_manifest, verify
from fairlead.names import MODEL_MANIFEST, VERSION_SCHEME, ModelRef
from fairlead.registry import open_registry
from fairlead.registry.records import VersionRecord
from fairlead.storage import open_store
from fairlead.storage.folders import download
from fairlead.storage.sources import fingerprint, localize


@dataclass(frozen=True)
class Base:
    """The model that training starts from, on this machine."""

    folder: Path
    digest: str
    """Of a model version its own digest, of anything else the fingerprint of its content."""
    version: str | None
    """`support_topics_v3` when it is a model version."""


def fetch_base(address: str, stage: str) -> Base:
    """The base at an address: a model version by `fairlead://<ref>` or in a folder, or what storage.sources takes.

    Raises NotFound when there is none and IntegrityError for a version that differs from its manifest.
    """
    if address.startswith(VERSION_SCHEME):
        folder = fetch_version(address.removeprefix(VERSION_SCHEME))
    else:
        folder = localize(address, places.home() / "bases", stage=stage)
    if (folder / MODEL_MANIFEST).is_file():
        manifest = verify(folder)
        return Base(folder, manifest.digest, manifest.name)
    return Base(folder, fingerprint(address, stage=stage), None)


def base_digest(address: str, stage: str = "storage") -> str:
    """The digest that `fetch_base` would give, without downloading anything where that is possible."""
    if address.startswith(VERSION_SCHEME):
        with open_registry() as registry:
            return registry.resolve(ModelRef.parse(address.removeprefix(VERSION_SCHEME))).digest
    return fingerprint(address, stage=stage)


def fetch_data_version(digest: str, stage: str = "fetch") -> Path:
    """The folder under `<home>/data` of the data version with this digest, every row verified.

    Raises NotFound when the registry or the store has it no more, IntegrityError when it differs from its digest.
    """
    with open_registry() as registry:
        record = registry.get_data_version(digest)
    folder = places.home() / "data" / short(record.digest)
    with _alone(folder):
        if not folder.exists():
            partial = folder.parent / f".{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            download(open_store(places.store_url()), record.prefix, partial, dataset.MANIFEST, stage=stage)
            _check_data(partial, record.digest)
            partial.rename(folder)
        else:
            _check_data(folder, record.digest)
    return folder


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


def fetch_from(address: str, folder: Path) -> ModelManifest:
    """Download the version that lies at an address of a store into `folder`, without a registry, every file verified.

    What a killed download left in `folder` is kept when its digest is right. Raises NotFound when no version lies at
    exactly that address, IntegrityError when a file there, or a stray one in `folder`, is not the version's.
    """
    store = open_store(address)
    manifest = parse_manifest(store.get_bytes(MODEL_MANIFEST), where=f"{store.url}/{MODEL_MANIFEST}")
    digests = {name: entry.sha256 for name, entry in manifest.files.items()}
    download(store, "", folder, MODEL_MANIFEST, digests, stage="fetch")
    return verify(folder)


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


def _check_data(folder: Path, digest: str) -> None:
    if dataset.verify(folder).digest != digest:
        raise IntegrityError(f"{folder}: it is another data version than {digest}; remove the folder to fetch it again")
