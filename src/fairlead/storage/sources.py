"""Where data and base models come from: an address becomes a local file or folder.

    path, file://                                file or folder, used where it is
    s3://bucket/key, s3://bucket/prefix/         object, or every object under a prefix
    https://host/file                            file (http:// from this machine only)
    hf://datasets/<org>/<repo>/<path>[@rev]      file or folder of a data set
    hf://<org>/<model>[@rev]                     model: safetensors, settings and tokenizer

A download lands under `<into>/<id>/`, where the id is taken over the address and the version of its
content: what is already there is not downloaded again, and a new version never meets an old one.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fairlead.errors import ConfigError, NotFound
from fairlead.events import Progress
from fairlead.formats.digests import CHUNK_BYTES, PREFIX, of_json
from fairlead.storage.contract import Advance, ObjectStat, ObjectStore, check_key
from fairlead.storage.opening import open_store
from fairlead.storage.redaction import redact

__all__ = ["fingerprint", "localize", "redact"]

# Files that run code when they are loaded; Fairlead loads none of them, so they stay where they are.
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


@dataclass(frozen=True)
class _Part:
    """One file of what an address names."""

    name: str
    version: str
    size: int | None
    download: Callable[[Path, Advance], None]


@dataclass(frozen=True)
class _Found:
    """What an address names: one file, or a folder of files."""

    is_file: bool
    parts: Sequence[_Part]
    identity: str


def localize(address: str, into: Path, stage: str = "storage") -> Path:
    """The file or folder that `address` names, downloaded under `into` unless it is local.

    A download that was cut or killed goes on where it broke. Raises NotFound, ConfigError for an
    address that is refused, StorageError when the source or the disk fails.
    """
    local = _local(address)
    if local:
        return local
    found = _find(address)
    folder = into / sha256(found.identity.encode()).hexdigest()[:16]
    sizes = [part.size for part in found.parts]
    total = sum(size or 0 for size in sizes) if None not in sizes else None
    progress = Progress(stage, f"download {redact(address)}", total, "bytes")
    for part in found.parts:
        path = folder / part.name
        if part.version and path.is_file():
            progress.advance(part.size or 0)
        else:
            part.download(path, progress.advance)
    return folder / found.parts[0].name if found.is_file else folder


def fingerprint(address: str, stage: str = "storage") -> str:
    """`sha256:<hex>` that changes when what `address` names changes.

    Taken over the content of local files, and over etags or revisions of remote ones, which are
    not downloaded for it: unless their server names no version, which then is the only way.
    """
    local = _local(address)
    if local:
        return _content_digest(local, stage)
    found = _find(address)
    if all(part.version for part in found.parts):
        return of_json(found.identity)
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return _content_digest(localize(address, Path(folder), stage), stage)


def _local(address: str) -> Path | None:
    if "://" in address and not address.startswith("file://"):
        return None
    path = Path(unquote(urlsplit(address).path) if "://" in address else address).expanduser().absolute()
    if not path.exists():
        raise NotFound(f"{address}: there is no such file or folder; check the path")
    return path


def _content_digest(path: Path, stage: str) -> str:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    progress = Progress(stage, f"read {path.name}", sum(file.stat().st_size for file in files), "bytes")
    digests = {file.relative_to(path).as_posix(): _file_digest(file, progress) for file in files}
    return digests["."] if path.is_file() else of_json(digests)


def _file_digest(path: Path, progress: Progress) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            progress.advance(len(chunk))
    return PREFIX + digest.hexdigest()


def _find(address: str) -> _Found:
    scheme = address.partition("://")[0]
    if scheme == "s3":
        return _find_s3(address)
    if scheme in ("http", "https"):
        return _find_web(address)
    if scheme == "hf":
        return _find_hub(address)
    raise ConfigError(f"{redact(address)}: {scheme}:// is not supported; use a path, s3://, https:// or hf://")


def _find_s3(address: str) -> _Found:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if "@" in bucket or "?" in bucket:
        open_store(address)  # refuses it, in words
    store = open_store(f"s3://{bucket}")
    if key and not key.endswith("/"):
        try:
            stat = store.stat(key)
        except NotFound:
            key += "/"
        else:
            return _found(address, True, [_object(store, stat, key.rpartition("/")[2])])
    stats = [stat for stat in store.list(key) if not stat.key.endswith(PICKLES)]
    if not stats:
        raise NotFound(f"{redact(address)}: there is no such object, and none below it; check the address")
    return _found(address, False, [_object(store, stat, stat.key.removeprefix(key)) for stat in stats])


def _object(store: ObjectStore, stat: ObjectStat, name: str) -> _Part:
    def download(path: Path, advance: Advance) -> None:
        store.get_file(stat.key, path, None, advance)

    return _Part(check_key(name), stat.etag, stat.size, download)


def _find_web(address: str) -> _Found:
    from fairlead.storage import web  # httpx costs 0.1 s to import

    file = web.inspect(address)

    def download(path: Path, advance: Advance) -> None:
        web.download(file, path, advance=advance)

    name = re.sub(r"[^\w.-]+", "_", unquote(urlsplit(address).path).rpartition("/")[2])[-100:].lstrip(".")
    version = f"{file.etag} {file.size}" if file.etag else ""
    return _found(address, True, [_Part(name or "download", version, file.size, download)])


def _find_hub(address: str) -> _Found:
    from fairlead.storage import hub  # huggingface_hub costs 0.5 s to import

    def part(file: hub.HubFile) -> _Part:
        return _Part(file.name, file.content, file.size, lambda path, advance: hub.download_file(file, path, advance))

    is_file, files = hub.list_files(address)
    return _found(address, is_file, [part(file) for file in files])


def _found(address: str, is_file: bool, parts: Sequence[_Part]) -> _Found:
    versions = "\n".join(f"{part.name} {part.size} {part.version}" for part in parts)
    # Of the address all but a password, which must not be guessed from the digest.
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return _Found(is_file, parts, f"{scheme}://{host.rpartition('@')[2]}{slash}{path}\n{versions}")
