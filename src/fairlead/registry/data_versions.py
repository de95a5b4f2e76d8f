"""Rows of data versions."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, select

from fairlead.errors import Conflict
from fairlead.formats.digests import PREFIX, short
from fairlead.registry.queries import not_found, now, upsert
from fairlead.registry.records import DataVersionRecord
from fairlead.registry.tables import data_versions

if TYPE_CHECKING:
    from fairlead.formats.dataset import DataManifest


def record(connection: Connection, manifest: "DataManifest", prefix: str) -> None:
    """Insert the data version; one that is there keeps its first row."""
    num_rows = sum(split.num_rows for split in manifest.splits.values())
    row = {
        "digest": manifest.digest,
        "prefix": prefix,
        "created": now(),
        "num_rows": num_rows,
        "manifest": manifest.to_dict(),
    }
    upsert(connection, data_versions, [row])


def get(connection: Connection, digest: str) -> DataVersionRecord:
    """The data version by its digest or the beginning of it. Raises NotFound, or Conflict when several begin so."""
    wanted = PREFIX + digest.removeprefix(PREFIX)
    matching = data_versions.c.digest.startswith(wanted, autoescape=True)
    rows = connection.execute(select(data_versions).where(matching).limit(3)).all()
    if len(rows) == 1 and len(wanted) > len(PREFIX):
        return _record(rows[0])
    known = [short(name) for name in connection.scalars(select(data_versions.c.digest))]
    if len(rows) > 1:
        raise Conflict(f"data: {digest!r} begins the digest of several data versions; write more of it")
    raise not_found("data", "data version", digest, known)


def listed(connection: Connection) -> list[DataVersionRecord]:
    """Data versions, the latest first."""
    rows = connection.execute(select(data_versions).order_by(data_versions.c.created.desc()))
    return [_record(row) for row in rows]


def _record(row: Row[Any]) -> DataVersionRecord:
    return DataVersionRecord(**row._mapping, labels=list(row.manifest["labels"]))
