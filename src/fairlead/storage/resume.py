"""Downloads that go on where they broke.

The bytes gather in `.<name>.<id>.part` beside the target, where `id` is taken over the address and
etag of what is read: a part belongs to one version of one object, and any other part of the same
name is of no use. The part is locked while a process fills it; a killed one leaves lock-free what
it has, and the next one goes on from there.
"""

import fcntl
import glob
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fairlead.errors import IntegrityError, StorageError
from fairlead.formats.digests import of_file
from fairlead.storage import disk
from fairlead.storage.contract import Advance, ignore

# Tries in a row that bring not one byte, after which the source counts as gone.
MAX_FRUITLESS_TRIES = 3
FIRST_PAUSE_SECONDS = 0.2
SUFFIX = ".part"


class Interrupted(Exception):
    """The source broke off; reading on may help. The message says how it broke."""


class Changed(Exception):
    """The source is no longer the version that was asked for."""


@dataclass(frozen=True)
class Remote:
    """One version of one thing that can be read from any offset."""

    where: str
    """Its address, for people and for the part's name; without credentials."""
    etag: str
    """Names the version; "" when the source names none, and then nothing is resumed."""
    size: int | None
    """Bytes; None when the source does not say."""
    read: Callable[[int], Iterator[bytes]]
    """The content from an offset on; raises Interrupted or Changed."""


def fetch(remote: Remote, path: Path, sha256: str | None = None, advance: Advance = ignore) -> None:
    """Write `remote` to `path` in one step. Raises IntegrityError, StorageError or Changed."""
    with disk.translated(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked_part(part_path(remote, path)) as (part, file):
            resumed = _fill(remote, file, advance)
            if sha256 and of_file(part) != sha256 and resumed:
                # What an earlier process left may itself be damaged (a power cut): once more, from nothing.
                file.truncate(0)
                _fill(remote, file, ignore)
            if sha256 and (found := of_file(part)) != sha256:
                part.unlink()
                raise IntegrityError(
                    f"{remote.where}: its content has {found}, not {sha256}; "
                    "it was changed or damaged: publish it again, or correct the digest"
                )
            os.fsync(file.fileno())
            disk.publish_file(part, path)
        _remove_stale_parts(path)


def part_path(remote: Remote, path: Path) -> Path:
    """Where the bytes of `remote` gather on their way to `path`."""
    identity = hashlib.sha256(f"{remote.where}\n{remote.etag}".encode()).hexdigest()[:16]
    return path.with_name(f".{_stem(path)}.{identity}{SUFFIX}")


def _stem(path: Path) -> str:
    # Names may have 255 bytes; the target's may use them all.
    return path.name.encode()[:200].decode(errors="ignore")


@contextmanager
def _locked_part(part: Path) -> Iterator[tuple[Path, BinaryIO]]:
    while True:
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had the lock before may have moved the file to its place meanwhile.
            if _same_file(part, file):
                yield part, file
                return


def _same_file(part: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), part.stat())
    except FileNotFoundError:
        return False


def _fill(remote: Remote, file: BinaryIO, advance: Advance) -> bool:
    """Append until the end of `remote`. True when there was something to go on from."""
    start = os.fstat(file.fileno()).st_size
    if not remote.etag or (remote.size is not None and start > remote.size):
        file.truncate(0)
        start = 0
    advance(start)

    def take(chunk: bytes) -> None:
        file.write(chunk)
        advance(len(chunk))

    try:
        pump(remote, take, start)
    finally:
        # What came so far is what the next try goes on from.
        file.flush()
    return start > 0


def pump(remote: Remote, take: Callable[[bytes], object], start: int = 0) -> None:
    """Give `take` the content of `remote` from `start` on, piece by piece, reconnecting as often as that helps."""
    done, fruitless = start, 0
    while True:
        before = done
        try:
            for chunk in remote.read(done) if done != remote.size else ():
                take(chunk)
                done += len(chunk)
            if remote.size is not None and done < remote.size:
                raise Interrupted(f"it ended after {done:,} of {remote.size:,} bytes")
            return
        except Interrupted as error:
            if done == remote.size:
                return
            fruitless = 0 if done > before else fruitless + 1
            if fruitless >= MAX_FRUITLESS_TRIES or not remote.etag:
                raise StorageError(f"{remote.where}: the connection broke: {error}; run again to go on") from error
            time.sleep(FIRST_PAUSE_SECONDS * 2**fruitless)


def _remove_stale_parts(path: Path) -> None:
    for part in path.parent.glob(f".{glob.escape(_stem(path))}.{'[0-9a-f]' * 16}{SUFFIX}"):
        with part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            part.unlink(missing_ok=True)
