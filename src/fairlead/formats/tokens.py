"""A tokenized data version on disk: what tokenize leaves and train maps into memory.

    tokens.json           TokensManifest
    tokenizer/            the tokenizer in the Hugging Face layout
    <split>.tokens.bin    token ids of all rows end to end, uint16 or uint32, little endian
    <split>.offsets.bin   int64, num_rows + 1: row i is tokens[offsets[i]:offsets[i + 1]]
    <split>.labels.bin    by task, little endian, row after row:
                          classification: int32, index into the manifest's labels, -1 for a label that
                          the training split does not have (only in further data sets);
                          multi_label: uint8 a label, 1 where the row has it, or 255 for every one of them
                          when it has one that the training split does not have;
                          regression: float64, the number; language_modeling: empty

Ids already carry the special tokens ([CLS] ... [SEP]) and are cut to `max_length`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.config import Config
from fairlead.errors import IntegrityError, NotFound
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import of_file, of_json
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING, MULTI_LABEL, REGRESSION, TaskName

MANIFEST = "tokens.json"
TOKENIZER = "tokenizer"
UNKNOWN_LABEL = -1
UNKNOWN_SET = 255
LABEL_DTYPES: dict[TaskName, str] = {
    CLASSIFICATION: "<i4",
    MULTI_LABEL: "|u1",
    REGRESSION: "<f8",
    LANGUAGE_MODELING: "|u1",
}


class TokenSplit(Config):
    """One tokenized split."""

    num_rows: int
    """Rows."""
    num_tokens: int
    """Tokens of all rows, special tokens included."""
    digests: dict[str, str]
    """SHA-256 of the three files by kind: tokens, offsets, labels."""
    length_quantiles: dict[str, float]
    """Tokens a row before cutting, by quantile name: p50, p90, p99, max."""
    truncated_share: float
    """Share of rows that were longer than max_length, 0 to 1."""
    unknown_token_share: float
    """Share of tokens that are the unknown token, 0 to 1."""
    num_characters: int | None = None
    """Characters of all rows; None where tokens are cut to max_length."""
    num_bytes: int | None = None
    """Bytes of all rows in UTF-8; None where tokens are cut to max_length."""


class TokensManifest(Config):
    """`tokens.json`."""

    format: int = 1
    """Version of this format."""
    digest: str
    """SHA-256 over the data version, the tokenizer's digest, max_length and every split's digests."""
    data_digest: str
    """The data version."""
    tokenizer_digest: str
    """SHA-256 over the names and digests of the tokenizer's files."""
    vocab_size: int
    """Number of ids the tokenizer can give; the model's embedding has at least as many rows."""
    pad_token_id: int
    """Id that fills a batch."""
    end_token_id: int | None = None
    """Id that stands between two documents of a language model's data; None for other tasks."""
    max_length: int
    """Tokens a row at most."""
    dtype: str
    """NumPy type of the token file: uint16 or uint32."""
    task: TaskName = CLASSIFICATION
    """What is learned, as the data version has it."""
    labels: list[str]
    """Class names; the index is the class id. Empty where there are no classes."""
    splits: dict[str, TokenSplit]
    """By name, as in the data version."""
    config: dict[str, Any]
    """The resolved TokenizationConfig and the model base that the tokenizer came from."""


@dataclass(frozen=True)
class TokenArrays:
    """A split mapped into memory, read only."""

    tokens: npt.NDArray[np.unsignedinteger[Any]]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[Any]
    """Class ids (num_rows,); of multi-label data (num_rows, C); numbers (num_rows,); of language (num_rows, 0)."""

    @property
    def num_rows(self) -> int:
        """Rows of the split."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row, shape (num_rows,)."""
        return np.diff(self.offsets)

    @property
    def by_epoch(self) -> bool:
        """Whether each epoch of training has rows of its own: blocks of a stream have, texts have not."""
        return False

    def spans(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First token and number of tokens of each of some rows."""
        starts = self.offsets[rows]
        return starts, self.offsets[rows + 1] - starts

    def row(self, index: int) -> npt.NDArray[np.unsignedinteger[Any]]:
        """The token ids of one row."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def write_manifest(folder: Path, manifest: TokensManifest) -> None:
    """Write `tokens.json`, last."""
    write_json(folder / MANIFEST, manifest.to_dict())


def read_manifest(folder: Path) -> TokensManifest:
    """Read `tokens.json`. Raises NotFound when `folder` holds no tokenized data."""
    try:
        return TokensManifest.parse(json.loads((folder / MANIFEST).read_text("utf-8")), where=str(folder))
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: it holds no tokens (no {MANIFEST}); run tokenize first") from error
    except json.JSONDecodeError as error:
        raise IntegrityError(f"{folder / MANIFEST}: it is not JSON ({error}); run tokenize again") from error


def split_files(folder: Path, split: str) -> dict[str, Path]:
    """The three files of a split by kind: tokens, offsets, labels."""
    return {kind: folder / f"{split}.{kind}.bin" for kind in ("tokens", "offsets", "labels")}


def open_split(folder: Path, manifest: TokensManifest, split: str) -> TokenArrays:
    """Map a split into memory after its digests are checked.

    Raises NotFound for a split the manifest does not have, IntegrityError when a file differs.
    """
    if split not in manifest.splits:
        raise NotFound(f"{folder}: there is no split {split!r}; it has {', '.join(manifest.splits)}")
    files = split_files(folder, split)
    for kind, path in files.items():
        if not path.is_file() or of_file(path) != manifest.splits[split].digests[kind]:
            raise IntegrityError(f"{path}: it is missing or differs from {MANIFEST}; run tokenize again")
    return map_split(files, manifest.dtype, manifest.task, len(manifest.labels))


def map_split(files: dict[str, Path], dtype: str, task: TaskName, num_labels: int) -> TokenArrays:
    """Map the three files of a split, whose digests are known to be right, into memory."""
    offsets = _map(files["offsets"], "int64")
    labels = _map(files["labels"], LABEL_DTYPES[task])
    if task not in (CLASSIFICATION, REGRESSION):
        labels = labels.reshape(len(offsets) - 1, num_labels)
    return TokenArrays(tokens=_map(files["tokens"], dtype), offsets=offsets, labels=labels)


def known_rows(labels: npt.NDArray[Any], task: TaskName) -> npt.NDArray[np.bool_]:
    """Which rows have only labels that the training split has, shape (num_rows,)."""
    known = np.ones(len(labels), np.bool_)
    if task == CLASSIFICATION:
        known[:] = np.asarray(labels) != UNKNOWN_LABEL
    if task == MULTI_LABEL:
        known[:] = (np.asarray(labels) != UNKNOWN_SET).all(axis=1)
    return known


def _map(path: Path, dtype: str) -> npt.NDArray[Any]:
    # An empty file cannot be mapped.
    if path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r")


def tokens_digest(data: str, tokenizer: str, max_length: int, splits: dict[str, TokenSplit]) -> str:
    """The digest that names a tokenized data version."""
    digests = {name: split.digests for name, split in splits.items()}
    return of_json({"data": data, "tokenizer": tokenizer, "max_length": max_length, "splits": digests})
