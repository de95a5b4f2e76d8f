"""Whole folders in and out of a store, so that a reader sees a folder complete or not at all."""

from collections.abc import Mapping
from pathlib import Path

from fairlead.errors import ConfigError, NotFound
from fairlead.events import Progress
from fairlead.formats.digests import of_file
from fairlead.storage.contract import ObjectStat, ObjectStore, check_key


def publish(store: ObjectStore, folder: Path, prefix: str, last: str, stage: str = "storage") -> None:
    """Upload every file of `folder` under `prefix` (ending in `/`), the one named `last` after all others.

    A reader that waits for `last` never sees half a folder; a second publish of the same folder
    writes the same objects again. Hidden files stay behind. Raises NotFound without `last`.
    """
    names = sorted(file_names(folder), key=lambda name: (name == last, name))
    if last not in names:
        raise NotFound(f"{folder}: it has no {last}, without which it is not complete; write the folder again")
    progress = Progress(stage, f"upload {prefix}", sum((folder / n).stat().st_size for n in names), "bytes")
    for name in names:
        store.put_file(_key(prefix, name), folder / name, progress.advance)


def download(
    store: ObjectStore,
    prefix: str,
    folder: Path,
    last: str | None = None,
    digests: Mapping[str, str] | None = None,
    stage: str = "storage",
) -> None:
    """Download every object under `prefix` (ending in `/`) into `folder`, the one named `last` after all others.

    With `digests` (`sha256:<hex>` by name) exactly those files and `last` are downloaded, each is
    checked, and one that is already there with its digest is kept. Raises NotFound when `last`, or
    everything, is missing, and IntegrityError when a file differs.
    """
    found = {stat.key.removeprefix(prefix): stat for stat in store.list(prefix)}
    wanted = set(found) if digests is None else {*digests, *([last] if last else [])}
    missing = sorted((wanted | ({last} if last else set())) - set(found))
    if missing or not found:
        absent = missing[0] if missing else "object"
        raise NotFound(f"{store.url}: there is no {absent} under {prefix!r}; check the name or publish it again")
    names = sorted(wanted, key=lambda name: (name == last, name))
    progress = Progress(stage, f"download {prefix}", sum(found[n].size for n in names), "bytes")
    for name in names:
        _download_file(store, found[name], folder / name, (digests or {}).get(name), progress)


def remove(store: ObjectStore, prefix: str, first: str) -> int:
    """Delete every object under `prefix` (ending in `/`), the one named `first` before all others.

    So a reader that waits for `first` never sees what is left. Returns how many there were.
    """
    keys = [stat.key for stat in store.list(prefix)]
    for key in sorted(keys, key=lambda key: (key != prefix + first, key)):
        store.delete(key)
    return len(keys)


def file_names(folder: Path) -> list[str]:
    """Every file under `folder` by relative POSIX path, in order; hidden ones and symbolic links are left out."""
    paths = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return sorted(p.as_posix() for p in paths if not any(part.startswith(".") for part in p.parts))


def _download_file(store: ObjectStore, stat: ObjectStat, path: Path, sha256: str | None, progress: Progress) -> None:
    # A key from a store is input: it may not lead out of the folder.
    check_key(stat.key)
    if sha256 and path.is_file() and path.stat().st_size == stat.size and of_file(path) == sha256:
        progress.advance(stat.size)
    else:
        store.get_file(stat.key, path, sha256, progress.advance)


def _key(prefix: str, name: str) -> str:
    if not prefix.endswith("/"):
        raise ConfigError(f"prefix {prefix!r}: it does not end in '/'; add it")
    return prefix + name
