"""`store gc`: remove what registrations that never ended, and runs that did, left in the object store."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fairlead.errors import Conflict
from fairlead.events import Progress
from fairlead.names import CHECKPOINTS, MODEL_MANIFEST, version_prefix
from fairlead.registry.records import Reservation
from fairlead.registry.store import Registry
from fairlead.storage import ObjectStore
from fairlead.storage.folders import remove


@dataclass
class CollectionReport:
    """What was removed, and what was left because it is young or being uploaded now."""

    removed: dict[str, int] = field(default_factory=dict)
    """Number of objects removed, by the name of the version that was given up or the prefix of a run's checkpoints."""
    kept: list[str] = field(default_factory=list)
    """Names of the versions that were left alone."""

    @property
    def num_objects(self) -> int:
        """Objects removed in all."""
        return sum(self.removed.values())


def collect_garbage(
    registry: Registry, store: ObjectStore, older_than_seconds: float, dry_run: bool = False
) -> CollectionReport:
    """Give up reservations older than `older_than_seconds` and delete their objects; `dry_run` only says which.

    A version that is being uploaded holds its lock and is left alone however old it is. Versions that
    were given up before are looked at again: an earlier collection may have been killed between the two steps.
    Checkpoints of finished runs go as well, those of others never.
    """
    report = CollectionReport()
    pending, abandoned = registry.pending_versions(), registry.abandoned_versions()
    progress = Progress("gc", "collect garbage", len(pending) + len(abandoned), "versions")
    for reservation in [*pending, *abandoned]:
        young = reservation in pending and _age(reservation) < timedelta(seconds=older_than_seconds)
        num_objects = None if young else _collect(registry, store, reservation, dry_run)
        if num_objects is None:
            report.kept.append(reservation.name)
        elif num_objects or reservation in pending:
            report.removed[reservation.name] = num_objects
        progress.advance(note=reservation.name)
    for prefix in _checkpoints_of_finished(registry, store, older_than_seconds):
        num_objects = sum(1 for _ in store.list(prefix)) if dry_run else remove(store, prefix, first="")
        report.removed[prefix] = num_objects
    return report


def _checkpoints_of_finished(registry: Registry, store: ObjectStore, older_than_seconds: float) -> list[str]:
    """The prefixes of the checkpoints of runs that finished so long ago; their model is registered or given up."""
    ended = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
    found = {stat.key.split("/")[1] for stat in store.list(f"{CHECKPOINTS}/")}
    runs = {run.run_id: run for run in registry.list_runs() if run.status == "finished" and run.finished}
    return [f"{CHECKPOINTS}/{name}/" for name in sorted(found & set(runs)) if _time(runs[name].finished) <= ended]


def _time(text: str | None) -> datetime:
    return datetime.fromisoformat(text or "9999-01-01T00:00:00+00:00")


def _collect(registry: Registry, store: ObjectStore, reservation: Reservation, dry_run: bool) -> int | None:
    """Number of objects removed, None when the version is to be left alone."""
    prefix = version_prefix(reservation.project, reservation.number)
    with registry.upload_lock(reservation, wait=False) as held:
        if not held:
            return None
        if dry_run:
            return sum(1 for _ in store.list(prefix))
        try:
            registry.abandon(reservation.project, reservation.number)
        except Conflict:
            # It was committed since the list was read.
            return None
        return remove(store, prefix, first=MODEL_MANIFEST)


def _age(reservation: Reservation) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(reservation.created)
