"""The few things a store asks of the file system, with its errors in words."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead.errors import StorageError

# EFBIG is how a limit on file size answers; EDQUOT, a quota.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn an OSError inside the block into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{where}: {_sentence(error)}") from error


def _sentence(error: OSError) -> str:
    named = f" ({error.filename})" if error.filename else ""
    if error.errno in FULL:
        return f"the disk is full{named}; free space, then run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the disk refuses it: {error.strerror}{named}; correct the permissions"
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return f"a file stands where a folder is needed, or a folder where a file is{named}; choose another name"
    return f"the disk failed: {error.strerror or error}{named}; correct the path or the disk"


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last across a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish_file(temporary: Path, target: Path) -> None:
    """Put a finished and synced file in its place in one step."""
    temporary.replace(target)
    sync_folder(target.parent)
