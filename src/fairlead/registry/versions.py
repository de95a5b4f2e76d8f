"""Rows of model versions: a number is reserved, the files are uploaded, the version is committed.

    reserve ──► pending ──► committed     visible to readers, for ever
                   └──────► abandoned     by `store gc`; the number is not used again

Every write locks the project's row first, so that numbers are consecutive and aliases change one at a time.
"""

from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from fairlead.errors import Conflict, NotFound, RegistryError
from fairlead.formats.model import ModelManifest
from fairlead.names import ModelRef, check_project, version_name
from fairlead.registry import aliases, evaluations
from fairlead.registry.queries import not_found, now, upsert
from fairlead.registry.records import ModelRecord, Promotion, Reservation, VersionRecord
from fairlead.registry.tables import ABANDONED, COMMITTED, PENDING, data_versions, projects, runs, versions


def reserve(connection: Connection, project: str, closure: str) -> Reservation:
    """The reservation of `closure`, with the project's next number when it has none."""
    upsert(connection, projects, [{"name": check_project(project), "last_version": 0, "created": now()}])
    number = _lock_project(connection, project) + 1
    same = (versions.c.project == project) & (versions.c.closure == closure)
    row = connection.execute(select(versions).where(same)).one_or_none()
    if row is not None:
        return _reservation(row)
    connection.execute(update(projects).where(projects.c.name == project).values(last_version=number))
    created = now()
    new = {"project": project, "number": number, "closure": closure, "state": PENDING, "created": created}
    connection.execute(versions.insert().values(new))
    return Reservation(project, number, created, committed=False)


def commit(connection: Connection, manifest: ModelManifest, prefix: str, promotion: Promotion | None) -> None:
    """Make a reserved version visible, with its evaluations and aliases. Committing it again changes nothing."""
    project, number = manifest.project, manifest.version
    _lock_project(connection, project)
    row = _row(connection, project, number)
    if row.state == COMMITTED and row.digest == manifest.digest:
        return
    _require_pending(row, f"{project}:{number}")
    _require_links(connection, manifest)
    _update(connection, row, _committed_values(manifest, prefix))
    evaluations.record(connection, manifest)
    aliases.promote(connection, project, number, promotion)


def abandon(connection: Connection, project: str, number: int) -> None:
    """Give up a reservation. Its number stays used; its closure is free to be reserved again."""
    _lock_project(connection, project)
    row = _row(connection, project, number)
    if row.state == COMMITTED:
        raise Conflict(f"{project}:{number}: it is committed; only a pending version can be abandoned")
    _update(connection, row, {"state": ABANDONED, "closure": None})


def get(connection: Connection, project: str, number: int) -> VersionRecord:
    """The committed version. Raises NotFound with the nearest names."""
    row = connection.execute(_committed(project).where(versions.c.number == number)).one_or_none()
    if row is None:
        require_project(connection, project)
        known = [version_name(project, r.number) for r in connection.execute(_committed(project))]
        raise not_found(project, "version", version_name(project, number), known)
    return _record(row, aliases.of_project(connection, project))


def listed(connection: Connection, project: str) -> list[VersionRecord]:
    """Committed versions by number. Raises NotFound for a project that has none."""
    rows = connection.execute(_committed(project).order_by(versions.c.number)).all()
    if not rows:
        require_project(connection, project)
    known = aliases.of_project(connection, project)
    return [_record(row, known) for row in rows]


def models(connection: Connection) -> list[ModelRecord]:
    """Projects with a committed version, by name."""
    columns = (versions.c.project, func.count(), func.max(versions.c.number), func.max(versions.c.committed))
    query = select(*columns).where(versions.c.state == COMMITTED)
    rows = connection.execute(query.group_by(versions.c.project).order_by(versions.c.project)).all()
    return [ModelRecord(row[0], row[1], row[2], row[3], aliases.of_project(connection, row[0])) for row in rows]


def resolve(connection: Connection, ref: ModelRef) -> VersionRecord:
    """The version that a reference names now. Raises NotFound."""
    if ref.number is not None:
        return get(connection, ref.project, ref.number)
    known = aliases.of_project(connection, ref.project)
    if ref.alias not in known:
        require_project(connection, ref.project)
        raise not_found(ref.project, "alias", str(ref.alias), known)
    return get(connection, ref.project, known[ref.alias])


def uncommitted(connection: Connection, state: str) -> list[Reservation]:
    """Reservations that are pending or abandoned, the oldest first."""
    query = select(versions).where(versions.c.state == state).order_by(versions.c.created)
    return [_reservation(row) for row in connection.execute(query)]


def require_project(connection: Connection, project: str) -> None:
    """Raise NotFound when the project has no committed version."""
    known = set(connection.scalars(select(versions.c.project).where(versions.c.state == COMMITTED).distinct()))
    if project not in known:
        raise not_found("models", "model", project, known)


def _lock_project(connection: Connection, project: str) -> int:
    """Hold the project's row until the transaction ends; its last number. On SQLite the transaction holds all."""
    query = select(projects.c.last_version).where(projects.c.name == project).with_for_update()
    number: int | None = connection.scalar(query)
    if number is None:
        raise not_found("models", "project", project, connection.scalars(select(projects.c.name)))
    return number


def _row(connection: Connection, project: str, number: int) -> Row[Any]:
    one = (versions.c.project == project) & (versions.c.number == number)
    row = connection.execute(select(versions).where(one)).one_or_none()
    if row is None:
        raise NotFound(f"{project}:{number}: the number was never reserved; reserve a version first")
    return row


def _require_pending(row: Row[Any], where: str) -> None:
    if row.state == COMMITTED:
        raise Conflict(f"{where}: it is committed with digest {row.digest}; a version never changes")
    if row.state == ABANDONED:
        # A retry helps: it reserves a new number.
        raise RegistryError(f"{where}: `store gc` gave the reservation up meanwhile; run register again")


def _require_links(connection: Connection, manifest: ModelManifest) -> None:
    run_id, data = manifest.training.run_id, manifest.training.data_digest
    if connection.scalar(select(runs.c.run_id).where(runs.c.run_id == run_id)) is None:
        raise NotFound(f"{manifest.name}: its run {run_id} is not in the registry; train again without the cache")
    if connection.scalar(select(data_versions.c.digest).where(data_versions.c.digest == data)) is None:
        raise NotFound(f"{manifest.name}: its data {data} is not in the registry; ingest again without the cache")


def _committed_values(manifest: ModelManifest, prefix: str) -> dict[str, Any]:
    return {
        "state": COMMITTED,
        "committed": now(),
        "digest": manifest.digest,
        "prefix": prefix,
        "run_id": manifest.training.run_id,
        "data_digest": manifest.training.data_digest,
        "weights_digest": manifest.training.weights_digest,
        "manifest": manifest.to_dict(),
    }


def _update(connection: Connection, row: Row[Any], values: dict[str, Any]) -> None:
    one = (versions.c.project == row.project) & (versions.c.number == row.number)
    connection.execute(update(versions).where(one).values(values))


def _committed(project: str) -> Any:
    return select(versions).where(versions.c.project == project, versions.c.state == COMMITTED)


def _reservation(row: Row[Any]) -> Reservation:
    return Reservation(row.project, row.number, row.created, committed=row.state == COMMITTED)


def _record(row: Row[Any], known: dict[str, int]) -> VersionRecord:
    manifest = ModelManifest.parse(row.manifest, where=f"registry {row.project}:{row.number}")
    return VersionRecord(
        project=row.project,
        number=row.number,
        name=manifest.name,
        digest=row.digest,
        prefix=row.prefix,
        run_id=row.run_id,
        data_digest=row.data_digest,
        weights_digest=row.weights_digest,
        created=row.created,
        aliases=sorted(alias for alias, number in known.items() if number == row.number),
        metrics=dict(manifest.evaluations[0]["metrics"]) if manifest.evaluations else {},
        manifest=manifest,
    )
