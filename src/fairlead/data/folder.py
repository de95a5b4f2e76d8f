"""Reads a folder of text files: `<label>/<any name>`, one text a file."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fairlead.data.encodings import BLOCK_BYTES, BYTE_ORDER_MARKS, ESCAPE, Encoding, find_encoding
from fairlead.data.lines import OnBytes
from fairlead.data.rows import Batch, Rejected
from fairlead.errors import DataError

NO_LABEL = "the file is in no label's folder"
TOO_LONG = "longer than data.max_text_bytes"


def list_texts(folder: Path, where: str) -> list[Path]:
    """The folder's files in order of their paths; names that begin with a dot are left out.

    Raises DataError when there is no file in a subfolder.
    """
    found = list_files(folder)
    if not any(path.parent != folder for path in found):
        raise DataError(f"{where}: no subfolder holds a file; put each text in a subfolder named for its label")
    return found


def list_files(folder: Path) -> list[Path]:
    """Every file under a folder in order of their paths; names that begin with a dot are left out."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def find_folder_encoding(paths: Iterable[Path], configured: str, max_bytes: int, where: str) -> Encoding:
    """One encoding for all files; a file's own byte-order mark goes before it."""
    # Binary files among texts are set aside one by one; they say nothing of the others' encoding.
    texts = (content for path in paths if b"\0" not in (content := _content(path, max_bytes)))
    blocks = (content + b"\n" for content in texts if not _mark(content))
    return find_encoding(configured, blocks, where)


def read_folder(folder: Path, paths: list[Path], encoding: str, max_bytes: int, on_bytes: OnBytes) -> Iterator[Batch]:
    """Yield the folder's texts in batches."""
    batch, num_bytes = Batch(), 0
    for path in paths:
        source = path.relative_to(folder)
        content = _content(path, max_bytes)
        on_bytes(content)
        if source.parent == Path():
            batch.rejected.append(Rejected(source.as_posix(), 1, NO_LABEL))
        elif len(content) > max_bytes:
            detail = f"more than {max_bytes} bytes"
            batch.rejected.append(Rejected(source.as_posix(), 1, TOO_LONG, detail, _text(content[:200], encoding)))
        else:
            batch.add(_text(content, encoding), source.parts[0], 1, source.as_posix())
        num_bytes += len(content)
        if num_bytes >= BLOCK_BYTES:
            yield batch
            batch, num_bytes = Batch(), 0
    yield batch


def _content(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(max_bytes + 1)


def _text(content: bytes, encoding: str) -> str:
    return content.decode(_mark(content) or encoding, ESCAPE)


def _mark(content: bytes) -> str | None:
    return next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), None)
