"""The registry as its callers see it: each method is one transaction."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fairlead.errors import FairleadError
from fairlead.formats.model import Code, Environment, ModelManifest
from fairlead.names import CHAMPION, ModelRef, check_project
from fairlead.registry import aliases, data_versions, evaluations, feedback, runs, versions
from fairlead.registry.database import Database
from fairlead.registry.migration import migrate
from fairlead.registry.records import (
    DataVersionRecord,
    EvaluationRecord,
    Feedback,
    FeedbackRecord,
    FeedbackStatus,
    FinalStatus,
    MetricPoint,
    ModelRecord,
    Promotion,
    Reservation,
    RunRecord,
    VersionRecord,
)
from fairlead.registry.tables import ABANDONED, PENDING

if TYPE_CHECKING:
    from fairlead.formats.dataset import DataManifest


class Registry:
    """Projects, runs, data versions, model versions, evaluations and aliases in one database.

    Threads may share it. Every method raises RegistryError when the database fails.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        try:
            migrate(self._database)
        except FairleadError:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where the registry is, without its password."""
        return self._database.url

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_run(
        self,
        run_id: str,
        project: str,
        data_digest: str,
        tokens_digest: str,
        config: Mapping[str, Any],
        seed: int,
        environment: Environment,
        code: Code,
    ) -> None:
        """Record that a run starts, or starts again: `attempts` grows by one and its status is running.

        Raises Conflict when the run is recorded with another project, data, tokens or seed.
        """
        identity = {
            "run_id": run_id,
            "project": check_project(project),
            "data_digest": data_digest,
            "tokens_digest": tokens_digest,
            "seed": seed,
        }
        described = {"config": dict(config), "environment": environment.to_dict(), "code": code.to_dict()}
        with self._database.writing() as connection:
            runs.start(connection, identity, described)

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Write points of a run in one transaction; a point logged again (name, step) replaces the one before.

        Raises NotFound for an unknown run.
        """
        with self._database.writing() as connection:
            runs.log(connection, run_id, points)

    def drop_metrics(self, run_id: str, after_step: int) -> None:
        """Forget a run's points of later steps than `after_step`, which it does again. Raises NotFound."""
        with self._database.writing() as connection:
            runs.drop(connection, run_id, after_step)

    def finish_run(
        self,
        run_id: str,
        status: FinalStatus,
        reason: str | None = None,
        weights_digest: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Record how a run ended. Raises NotFound."""
        with self._database.writing() as connection:
            runs.finish(connection, run_id, status, reason, weights_digest, metrics)

    def get_run(self, run_id: str) -> RunRecord:
        """One run. Raises NotFound."""
        with self._database.reading() as connection:
            return runs.get(connection, run_id)

    def list_runs(self, project: str | None = None) -> list[RunRecord]:
        """Runs of one project or of all, the latest first."""
        with self._database.reading() as connection:
            return runs.listed(connection, project)

    def metric_history(self, run_id: str, name: str | None = None, after_step: int | None = None) -> list[MetricPoint]:
        """The points of a run by name and step, also while it is running. Raises NotFound."""
        with self._database.reading() as connection:
            return runs.history(connection, run_id, name, after_step)

    def latest_metrics(self, run_id: str) -> dict[str, MetricPoint]:
        """The point of the latest step of each metric, by name: quick, however long the run. Raises NotFound."""
        with self._database.reading() as connection:
            return runs.latest(connection, run_id)

    def record_data_version(self, manifest: "DataManifest", prefix: str) -> None:
        """Record a data version that the object store holds under `prefix`; again changes nothing."""
        with self._database.writing() as connection:
            data_versions.record(connection, manifest, prefix)

    def get_data_version(self, digest: str) -> DataVersionRecord:
        """One data version by its digest or the beginning of it. Raises NotFound, Conflict when several match."""
        with self._database.reading() as connection:
            return data_versions.get(connection, digest)

    def list_data_versions(self) -> list[DataVersionRecord]:
        """Data versions, the latest first."""
        with self._database.reading() as connection:
            return data_versions.listed(connection)

    def reserve_version(self, project: str, closure: str) -> Reservation:
        """Allocate the project's next number to `closure`, or find the one it has."""
        with self._database.writing() as connection:
            return versions.reserve(connection, project, closure)

    def commit_version(self, manifest: ModelManifest, prefix: str, promotion: Promotion | None = None) -> VersionRecord:
        """Make a reserved version visible and set its aliases, in one transaction; again changes nothing.

        Raises NotFound when its run, data or reservation is missing, Conflict when another content is
        committed under the number, RegistryError when the reservation was abandoned.
        """
        with self._database.writing() as connection:
            versions.commit(connection, manifest, prefix, promotion)
            return versions.get(connection, manifest.project, manifest.version)

    def upload_lock(self, reservation: Reservation, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold a reservation's lock while its files are written or deleted; it goes with a process that dies.

        The value is False when `wait` is False and another process holds it.
        """
        return self._database.lock(reservation.name, wait)

    def pending_versions(self) -> list[Reservation]:
        """Reservations that are not committed, the oldest first."""
        with self._database.reading() as connection:
            return versions.uncommitted(connection, PENDING)

    def abandoned_versions(self) -> list[Reservation]:
        """Reservations that were given up, the oldest first."""
        with self._database.reading() as connection:
            return versions.uncommitted(connection, ABANDONED)

    def abandon(self, project: str, number: int) -> None:
        """Give up a reservation; its number is not used again. Raises Conflict when it is committed."""
        with self._database.writing() as connection:
            versions.abandon(connection, project, number)

    def get_version(self, project: str, number: int) -> VersionRecord:
        """One version. Raises NotFound."""
        with self._database.reading() as connection:
            return versions.get(connection, project, number)

    def list_versions(self, project: str) -> list[VersionRecord]:
        """Versions of a project by number. Raises NotFound when there is none."""
        with self._database.reading() as connection:
            return versions.listed(connection, project)

    def list_models(self) -> list[ModelRecord]:
        """Projects that have a version, by name."""
        with self._database.reading() as connection:
            return versions.models(connection)

    def resolve(self, ref: ModelRef) -> VersionRecord:
        """The version that a reference names now. Raises NotFound."""
        with self._database.reading() as connection:
            return versions.resolve(connection, ref)

    def champion(self, project: str) -> VersionRecord | None:
        """The champion of a project, None when it has none."""
        with self._database.reading() as connection:
            number = aliases.of_project(connection, project).get(CHAMPION)
            return None if number is None else versions.get(connection, project, number)

    def set_alias(self, project: str, alias: str, number: int) -> None:
        """Point an alias at a version. Raises NotFound when the version does not exist."""
        with self._database.writing() as connection:
            versions.get(connection, project, number)
            aliases.put(connection, project, alias, number)

    def delete_alias(self, project: str, alias: str) -> None:
        """Remove an alias. Raises NotFound."""
        with self._database.writing() as connection:
            aliases.remove(connection, project, alias)

    def find_evaluation(self, weights_digest: str, dataset_digest: str) -> EvaluationRecord | None:
        """The latest evaluation of these weights on these rows, None when there is none."""
        with self._database.reading() as connection:
            return evaluations.find(connection, weights_digest, dataset_digest)

    def list_evaluations(self, project: str, number: int) -> list[EvaluationRecord]:
        """Evaluations of a version, in the order they were recorded. Raises NotFound."""
        with self._database.reading() as connection:
            versions.get(connection, project, number)
            return evaluations.of_version(connection, project, number)

    def record_feedback(self, given: Sequence[Feedback]) -> list[FeedbackStatus]:
        """Keep true labels, all or none; the last one of a text counts. Says of each what became of it."""
        with self._database.writing() as connection:
            return [feedback.record(connection, one) for one in given]

    def get_feedback(self, prediction_id: str) -> list[FeedbackRecord]:
        """The true labels of a prediction's texts, those that are known."""
        with self._database.reading() as connection:
            return feedback.of_prediction(connection, prediction_id)

    def list_feedback(self, project: str | None, number: int | None = None) -> list[FeedbackRecord]:
        """The true labels of a version or a whole project; without one, those whose prediction was not found yet."""
        with self._database.reading() as connection:
            return feedback.of_project(connection, project, number)
