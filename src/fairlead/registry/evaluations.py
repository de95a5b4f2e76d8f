"""Rows of evaluations: how a version did on a data set."""

from typing import Any

from sqlalchemy import Connection, Row, select

from fairlead.formats.evaluation import ChampionScore
from fairlead.formats.model import ModelManifest
from fairlead.registry.queries import now, upsert
from fairlead.registry.records import EvaluationRecord
from fairlead.registry.tables import evaluations, versions


def record(connection: Connection, manifest: ModelManifest) -> None:
    """Insert the evaluations that a version's manifest holds."""
    rows = [
        {
            "project": manifest.project,
            "number": manifest.version,
            "dataset": summary["dataset"],
            "dataset_digest": summary["dataset_digest"],
            "weights_digest": manifest.training.weights_digest,
            "num_rows": summary["num_rows"],
            "metrics": summary["metrics"],
            "summary": summary,
            "created": now(),
        }
        for summary in manifest.evaluations
    ]
    upsert(connection, evaluations, rows)


def record_score(connection: Connection, project: str, number: int, score: ChampionScore) -> None:
    """Keep how an older version did on newer data; what is known already stays."""
    one = (versions.c.project == project) & (versions.c.number == number)
    weights_digest = connection.scalar(select(versions.c.weights_digest).where(one))
    row = {
        "project": project,
        "number": number,
        "dataset": "test",
        "dataset_digest": score.dataset_digest,
        "weights_digest": weights_digest,
        "num_rows": None,
        "metrics": score.metrics,
        "summary": None,
        "created": now(),
    }
    upsert(connection, evaluations, [row])


def of_version(connection: Connection, project: str, number: int) -> list[EvaluationRecord]:
    """Evaluations of a version, in the order they were recorded."""
    one = (evaluations.c.project == project) & (evaluations.c.number == number)
    query = select(evaluations).where(one).order_by(evaluations.c.created, evaluations.c.dataset)
    return [_record(row) for row in connection.execute(query)]


def find(connection: Connection, weights_digest: str, dataset_digest: str) -> EvaluationRecord | None:
    """The latest evaluation of these weights on these rows, one with a summary before one without."""
    same = (evaluations.c.weights_digest == weights_digest) & (evaluations.c.dataset_digest == dataset_digest)
    order = (evaluations.c.num_rows.is_(None), evaluations.c.created.desc())
    row = connection.execute(select(evaluations).where(same).order_by(*order).limit(1)).one_or_none()
    return None if row is None else _record(row)


def metric(connection: Connection, project: str, number: int, name: str, dataset_digest: str) -> float | None:
    """One metric of a version on one data set, None when it was not measured."""
    for record in of_version(connection, project, number):
        if record.dataset_digest == dataset_digest and name in record.metrics:
            return record.metrics[name]
    return None


def _record(row: Row[Any]) -> EvaluationRecord:
    values = {name: value for name, value in row._mapping.items() if name != "created"}
    return EvaluationRecord(**values)
