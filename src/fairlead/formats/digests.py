"""SHA-256 digests, written `sha256:<64 hex digits>`, and the canonical JSON that they are taken over."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

PREFIX = "sha256:"
CHUNK_BYTES = 1 << 20


def of_bytes(content: bytes | memoryview) -> str:
    """The digest of `content`."""
    return PREFIX + hashlib.sha256(content).hexdigest()


def of_json(value: Any) -> str:
    """The digest of a JSON value: keys sorted, no spaces, UTF-8; equal values have equal digests."""
    return of_bytes(canonical_json(value))


def canonical_json(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no spaces. Raises ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def of_file(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """The digest of a file's bytes, read in pieces of 1 MiB; `advance` is told the size of each."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            if advance:
                advance(len(chunk))
    return PREFIX + digest.hexdigest()


def short(digest: str) -> str:
    """The first 12 hex digits, for people."""
    return digest.removeprefix(PREFIX)[:12]
