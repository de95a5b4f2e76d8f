"""`store gc`: remove what registrations that never ended, and runs that did, left in the object store.

    models/<project>/v0002/   of a registration that never ended and is older than the age asked for
    checkpoints/<run>/        of a run that finished longer ago than that
    runs/<run>/               likewise: the job, its tokens and the finished model that its nodes left

Runs that failed or go on are left alone, since the same step takes them up again. So is whatever a version names in
its settings: somebody may have trained on from there.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fairlead.errors import Conflict
from fairlead.events import Progress
from fairlead.names import CHECKPOINTS, MODEL_MANIFEST, RUNS, version_prefix
from fairlead.registry.records import Reservation
from fairlead.registry.store import Registry
from fairlead.storage import ObjectStore
from fairlead.storage.folders import remove


@dataclass
class CollectionReport:
    """What was removed, and what was left because it is young or being uploaded now."""

    removed: dict[str, int] = field(default_factory=dict)
    """Number of objects removed, by the name of the version that was given up or the prefix of what a run left."""
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
    What finished runs left goes as well, unless a version names it.
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
    for prefix in _left_by_finished(registry, store, older_than_seconds):
        num_objects = sum(1 for _ in store.list(prefix)) if dry_run else remove(store, prefix, first="")
        report.removed[prefix] = num_objects
    return report


def settings_of_versions(registry: Registry) -> str:
    """The settings of all versions as JSON: an address that is found in here may be what a version came from."""
    versions = [version for model in registry.list_models() for version in registry.list_versions(model.project)]
    return json.dumps([version.manifest.training.config for version in versions])


def _left_by_finished(registry: Registry, store: ObjectStore, older_than_seconds: float) -> list[str]:
    """The prefixes of what runs left that finished so long ago; their model is registered or given up."""
    ended = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
    runs = {run.run_id for run in registry.list_runs() if run.status == "finished" and _time(run.finished) <= ended}
    named = settings_of_versions(registry)
    found = {(root, stat.key.split("/")[1]) for root in (CHECKPOINTS, RUNS) for stat in store.list(f"{root}/")}
    prefixes = [f"{root}/{run}/" for root, run in sorted(found) if run in runs]
    return [prefix for prefix in prefixes if prefix not in named]


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
