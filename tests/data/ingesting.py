"""Runs ingest on content written here, for the tests of ingest."""

import json
from pathlib import Path
from typing import Any

from fairlead.data.config import DataConfig
from fairlead.data.ingest import ingest, localize_sources
from fairlead.formats.dataset import DataManifest, read_rows, verify

FILLER = "".join(f"filler number {i},{'ab'[i % 2]}\n" for i in range(40))


def run(folder: Path, **values: Any) -> DataManifest:
    """Ingest with DataConfig's `values` into `folder`, and check what it left."""
    config = DataConfig.parse(values)
    manifest = ingest(config, localize_sources(config, "digest"), folder)
    assert verify(folder) == manifest
    found = manifest.findings
    dropped = sum(policy["dropped"] for policy in found["policies"].values())
    kept = sum(split.num_rows for split in manifest.splits.values())
    assert found["rows_read"] == kept + dropped + found["rejected"]
    return manifest


def rows(folder: Path) -> list[tuple[str, str]]:
    """Every row of every split, sorted."""
    return sorted(row for path in folder.glob("*.parquet") for row in read_rows(folder, path.stem))


def rejected(folder: Path) -> list[tuple[int, str]]:
    """Line and reason of every row set aside."""
    objects = [json.loads(line) for line in (folder / "rejected.jsonl").read_text("utf-8").splitlines()]
    return [(row["line"], row["reason"]) for row in objects]
