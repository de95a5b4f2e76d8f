"""What every object store does, and what a key may be.

An object is immutable for its reader: a write replaces the whole object in one step or leaves the
old one. Keys are relative POSIX paths and sort by their UTF-8 bytes. Stores never create buckets.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from fairlead.errors import ConfigError

# What S3 takes.
MAX_KEY_BYTES = 1024
# What a file system takes.
MAX_SEGMENT_BYTES = 255
# No segment of a key begins with this: the folder store keeps unfinished files under such a name.
RESERVED_PREFIX = ".fairlead-"

Content = bytes | memoryview
"""What one object holds."""

Advance = Callable[[int], None]
"""Told the number of bytes done since the last call."""


def ignore(_: int) -> None:
    """The `Advance` of callers that show no progress."""


@dataclass(frozen=True)
class ObjectStat:
    """One object as it is now."""

    key: str
    """Key relative to the store's address."""
    size: int
    """Bytes."""
    etag: str
    """Differs whenever the content was written anew; opaque."""
    modified: datetime
    """When it was written, in UTC."""


class ObjectStore(Protocol):
    """Objects by key.

    Every method raises ConfigError for a hostile key and StorageError when the store or the disk
    fails; a missing object is NotFound. No message, repr or URL ever carries a credential.
    """

    @property
    def url(self) -> str:
        """Address of the store, as `open_store` takes it."""

    def put_bytes(self, key: str, content: Content) -> None:
        """Write an object in one step; `content` is not copied and must not change meanwhile."""

    def put_file(self, key: str, path: Path, advance: Advance = ignore) -> None:
        """Write an object from a file in one step; a large one goes in parts."""

    def get_bytes(self, key: str) -> bytes:
        """The content of an object."""

    def get_file(self, key: str, path: Path, sha256: str | None = None, advance: Advance = ignore) -> None:
        """Write an object's content to `path` in one step.

        A cut connection is resumed where it broke; so is a killed process, from the `.part` file
        that it left beside `path`. With `sha256` (`sha256:<hex>`), raises IntegrityError when the
        content differs, and `path` stays as it was.
        """

    def stat(self, key: str) -> ObjectStat:
        """Size, etag and time of an object."""

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object whose key begins with `prefix` (any string, "" for all), in key order."""

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""


def check_key(key: str) -> str:
    """Return `key`, or raise ConfigError when it is not a relative POSIX path that every store takes."""
    reason = _fault(key)
    if reason:
        shown = key if len(key) <= 80 else key[:77] + "..."
        raise ConfigError(f"key {shown!r}: {reason}; use a relative path such as models/topics/v0001/config.json")
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix`, or raise ConfigError when no legal key could begin with it."""
    folder, slash, begin = prefix.rpartition("/")
    if slash:
        check_key(folder)
    if begin:
        # The last part is the beginning of a name: `.` and `..` begin legal ones.
        check_key(begin + "x")
    return prefix


def _fault(key: str) -> str | None:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    segments = key.split("/")
    if not key or key.startswith("/"):
        return "it is empty or absolute"
    if len(encoded) > MAX_KEY_BYTES or any(len(s.encode()) > MAX_SEGMENT_BYTES for s in segments):
        return f"it is longer than {MAX_KEY_BYTES} bytes, or a part of it than {MAX_SEGMENT_BYTES}"
    if any(segment in ("", ".", "..") for segment in segments):
        return "it has an empty part, '.' or '..'"
    if "\\" in key or not key.isprintable():
        return "it has a backslash or a character that does not print"
    if any(segment.startswith(RESERVED_PREFIX) for segment in segments):
        return f"names that begin with {RESERVED_PREFIX!r} are reserved"
    return None
