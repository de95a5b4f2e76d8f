"""What a version came from, fetched and held against its recorded digests before anything is run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairlead.errors import BrokenLink, IntegrityError, NotFound, UserError
from fairlead.formats import dataset
from fairlead.formats.model import TrainingRecord
from fairlead.names import SCRATCH, VERSION_SCHEME, ModelRef
from fairlead.registry import VersionRecord, open_registry
from fairlead.registry.fetching import fetch_base, fetch_data_version
from fairlead.storage.redaction import HIDDEN


@dataclass(frozen=True)
class Links:
    """A version's data and base, on this machine and verified."""

    data: Path
    base: str
    """`scratch`, or the folder of the base."""


def gather(version: VersionRecord) -> Links:
    """Fetch what the version came from. Raises BrokenLink, which names what is gone or changed."""
    record = version.manifest.training
    with _link("data", version.name):
        data = fetch_data_version(record.data_digest, stage="reproduce")
        _check_labels(data, record)
    with _link("base", version.name):
        base = _base(record)
    return Links(data, base)


def ancestors(version: VersionRecord) -> list[VersionRecord]:
    """The versions that `version` continues, its parent first. Raises BrokenLink when one is not registered."""
    chain: list[VersionRecord] = []
    with open_registry() as registry, _link("parent", version.name):
        while name := (chain[-1] if chain else version).manifest.training.parent_version:
            chain.append(registry.resolve(ModelRef.parse(name)))
    return chain


@contextmanager
def _link(link: str, version: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise BrokenLink(f"{version}: the link {link!r} is broken: {error}", link) from error


def _check_labels(data: Path, record: TrainingRecord) -> None:
    """The digest of a data version covers its rows; the order of its classes stands in the model's record too."""
    manifest = dataset.read_manifest(data)
    if manifest.labels != record.labels:
        raise IntegrityError(f"{data}: its classes are not those of the model; the manifest in the store was changed")


def _base(record: TrainingRecord) -> str:
    address = str(record.config.get("model", {}).get("base", SCRATCH))
    if address == SCRATCH:
        return SCRATCH
    if record.parent_version:
        address = f"{VERSION_SCHEME}{record.parent_version}"
    elif HIDDEN in address:
        raise NotFound(f"{address}: a part of the base's address was a secret and is not recorded; train a new version")
    base = fetch_base(address, stage="reproduce")
    if base.digest != record.parent:
        raise IntegrityError(f"{address}: its digest is {base.digest}, recorded is {record.parent}; it was changed")
    return str(base.folder)
