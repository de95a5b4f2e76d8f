"""The object store in a folder: what a laptop uses, and tests."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import BinaryIO

from fairlead.errors import NotFound, StorageError
from fairlead.storage import disk
from fairlead.storage.contract import RESERVED_PREFIX, Advance, Content, ObjectStat, check_key, check_prefix, ignore
from fairlead.storage.resume import Remote, fetch

CHUNK_BYTES = 1 << 20
# Unfinished files gather here: on the same file system as the objects, so that a rename is one step.
UNFINISHED = RESERVED_PREFIX + "unfinished"
# Longer than any upload takes; what is older was left by a killed process.
UNFINISHED_SECONDS = 24 * 3600


class DirectoryStore:
    """Objects as files under one folder. Symbolic links are never followed below it."""

    def __init__(self, folder: Path) -> None:
        """The folder is made at the first write."""
        self._folder = folder.absolute()

    @property
    def url(self) -> str:
        """The folder's absolute path."""
        return str(self._folder)

    def __repr__(self) -> str:
        return f"DirectoryStore({self.url!r})"

    def put_bytes(self, key: str, content: Content) -> None:
        """Write an object in one step."""
        target = self._path(key)
        with disk.translated(self._where(key)):
            self._write(target, iter([content]))

    def put_file(self, key: str, path: Path, advance: Advance = ignore) -> None:
        """Write an object from a file in one step."""
        target = self._path(key)
        with disk.translated(self._where(key)), _open_source(path) as source:
            self._write(target, _chunks(source, advance))

    def get_bytes(self, key: str) -> bytes:
        """The content of an object."""
        with disk.translated(self._where(key)), self._open(key) as file:
            return file.read()

    def get_file(self, key: str, path: Path, sha256: str | None = None, advance: Advance = ignore) -> None:
        """Copy an object to `path` in one step, going on from what a killed copy left."""
        with self._open(key) as file:
            # The open file keeps its content even when the object is replaced meanwhile.
            stat = _stat(key, os.fstat(file.fileno()))

            def read(offset: int) -> Iterator[bytes]:
                file.seek(offset)
                yield from _chunks(file, ignore)

            fetch(Remote(self._where(key), stat.etag, stat.size, read), path, sha256, advance)

    def stat(self, key: str) -> ObjectStat:
        """Size, etag and time of an object."""
        with self._open(key) as file:
            return _stat(key, os.fstat(file.fileno()))

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object whose key begins with `prefix`, in key order."""
        folder = check_prefix(prefix).rpartition("/")[0]
        if not folder or not self._is_link(folder):
            yield from self._walk(f"{folder}/" if folder else "", prefix)

    def delete(self, key: str) -> None:
        """Remove an object, and the folders that it leaves empty."""
        path = self._path(key)
        with disk.translated(self._where(key)):
            try:
                path.unlink(missing_ok=True)
            except (NotADirectoryError, IsADirectoryError):
                return
            for parent in path.parents:
                if parent == self._folder or not _remove_empty(parent):
                    return

    def remove_unfinished(self) -> None:
        """Remove what killed writers left, whatever its age: for whoever knows that nobody writes here now."""
        shutil.rmtree(self._folder / UNFINISHED, ignore_errors=True)

    def _where(self, key: str) -> str:
        return f"{self._folder}/{key}"

    def _path(self, key: str) -> Path:
        if self._is_link(check_key(key)):
            raise StorageError(f"{self._where(key)}: it is or leads through a symbolic link; use real folders")
        return self._folder / key

    def _is_link(self, key: str) -> bool:
        path = self._folder
        for segment in key.split("/"):
            path = path / segment
            if path.is_symlink():
                return True
        return False

    def _open(self, key: str) -> BinaryIO:
        path = self._path(key)
        with disk.translated(self._where(key)):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise _missing(self._where(key)) from error
            if not S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise _missing(self._where(key))
            return os.fdopen(fd, "rb")

    def _write(self, target: Path, chunks: Iterator[Content]) -> None:
        unfinished = self._folder / UNFINISHED
        unfinished.mkdir(parents=True, exist_ok=True)
        _remove_old(unfinished)
        fd, name = tempfile.mkstemp(dir=unfinished)
        try:
            with os.fdopen(fd, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fchmod(fd, 0o644)
                os.fsync(fd)
            self._place(Path(name), target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _place(self, temporary: Path, target: Path) -> None:
        for last_try in (False, False, True):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                disk.publish_file(temporary, target)
                return
            except FileNotFoundError:
                # A concurrent delete took the folder that it had emptied.
                if last_try:
                    raise

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectStat]:
        try:
            with os.scandir(self._folder / folder) as found:
                # With its slash a folder sorts among files as its keys do.
                entries = sorted((e.name + "/" if e.is_dir(follow_symlinks=False) else e.name) for e in found)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StorageError(f"{self._where(folder)}: it cannot be listed: {error.strerror}; see to it") from error
        for name in sorted(entries, key=str.encode):
            key = folder + name
            if name.startswith(RESERVED_PREFIX) or not key.startswith(prefix):
                continue
            if name.endswith("/"):
                yield from self._walk(key, prefix)
            elif stat := self._stat_listed(key):
                yield stat

    def _stat_listed(self, key: str) -> ObjectStat | None:
        try:
            found = os.lstat(self._folder / key)
        except FileNotFoundError:
            return None
        return None if S_ISLNK(found.st_mode) or not S_ISREG(found.st_mode) else _stat(key, found)


def _stat(key: str, found: os.stat_result) -> ObjectStat:
    # Every write makes a new file, so these three together differ whenever the content does.
    etag = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
    return ObjectStat(key, found.st_size, etag, datetime.fromtimestamp(found.st_mtime, UTC))


def _missing(where: str) -> NotFound:
    return NotFound(f"{where}: there is no such object; check the key and the store's address")


def _open_source(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise NotFound(f"{path}: there is no such file; check the path") from error


def _chunks(file: BinaryIO, advance: Advance) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        advance(len(chunk))


def _remove_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _remove_old(folder: Path) -> None:
    for path in folder.iterdir():
        try:
            if time.time() - path.lstat().st_mtime > UNFINISHED_SECONDS:
                path.unlink()
        except FileNotFoundError:
            continue
