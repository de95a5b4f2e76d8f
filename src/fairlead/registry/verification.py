"""Whether every registered version lies whole in the store: what a restore must show, and a disk may take away."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.errors import IntegrityError, NotFound
from fairlead.registry.fetching import fetch_from

if TYPE_CHECKING:
    from fairlead.registry.records import VersionRecord
    from fairlead.registry.store import Registry


@dataclass(frozen=True)
class Verified:
    """What was found of one version."""

    version: str
    files: int
    size_bytes: int
    """Of its files, as registered."""
    problem: str | None
    """What is wrong; None when every byte is as registered."""


def verify_versions(registry: "Registry", store_url: str, project: str | None = None) -> Iterator[Verified]:
    """Download every version of a project, or of all, one at a time, and hold each file against the registry.

    Raises StorageError when the store cannot be reached: that says nothing about the versions.
    """
    projects = [project] if project else [model.project for model in registry.list_models()]
    for name in projects:
        for version in registry.list_versions(name):
            entries = version.manifest.files.values()
            size = sum(entry.size for entry in entries)
            yield Verified(version.name, len(entries), size, _problem(version, store_url))


def _problem(version: "VersionRecord", store_url: str) -> str | None:
    with tempfile.TemporaryDirectory(prefix="fairlead-") as temporary:
        try:
            manifest = fetch_from(f"{store_url.rstrip('/')}/{version.prefix}", Path(temporary))
        except (NotFound, IntegrityError) as error:
            return str(error).replace(f"{temporary}/", "")
    if manifest.digest != version.digest:
        return f"it is {manifest.digest}, not the {version.digest} that is registered; restore it"
    return None
