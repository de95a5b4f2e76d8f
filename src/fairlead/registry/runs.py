"""Rows of runs: their start, their parameters, their metrics over time and their end."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from fairlead.errors import Conflict
from fairlead.formats.model import Code, Environment
from fairlead.registry.queries import not_found, now, upsert
from fairlead.registry.records import FinalStatus, MetricPoint, RunRecord
from fairlead.registry.tables import metric_points, parameters, runs

REASON_CHARACTERS = 4000


def start(connection: Connection, identity: dict[str, Any], described: dict[str, Any]) -> None:
    """Insert the run, or count one more attempt of it. `identity` may not change between attempts."""
    run_id = identity["run_id"]
    first = {**identity, **described, "status": "running", "attempts": 0, "started": now(), "metrics": {}}
    upsert(connection, runs, [first])
    row = connection.execute(select(runs).where(runs.c.run_id == run_id).with_for_update()).one()._mapping
    for name, value in identity.items():
        if row[name] != value:
            raise Conflict(
                f"run {run_id}: its {name} is recorded as {row[name]!r} and is now {value!r}; start a new run"
            )
    again = {**described, "status": "running", "reason": None, "finished": None, "attempts": row["attempts"] + 1}
    connection.execute(update(runs).where(runs.c.run_id == run_id).values(again))
    connection.execute(delete(parameters).where(parameters.c.run_id == run_id))
    leaves = flatten(described["config"])
    upsert(connection, parameters, [{"run_id": run_id, "name": n, "value": v} for n, v in leaves])


def log(connection: Connection, run_id: str, points: Sequence[MetricPoint]) -> None:
    """Write points in one statement; a point logged again replaces the one before."""
    if points:
        require(connection, run_id)
    rows = [
        {
            "run_id": run_id,
            "name": point.name,
            "step": point.step,
            "value": point.value if math.isfinite(point.value) else None,
            "time": point.time,
        }
        for point in points
    ]
    upsert(connection, metric_points, rows, update=["value", "time"])


def drop(connection: Connection, run_id: str, after_step: int) -> None:
    """Delete the points of later steps."""
    require(connection, run_id)
    late = (metric_points.c.run_id == run_id) & (metric_points.c.step > after_step)
    connection.execute(delete(metric_points).where(late))


def finish(
    connection: Connection,
    run_id: str,
    status: FinalStatus,
    reason: str | None,
    weights_digest: str | None,
    metrics: Mapping[str, float] | None,
) -> None:
    """Write how the run ended."""
    require(connection, run_id)
    # PostgreSQL holds no NUL in text.
    short = reason.replace("\0", "")[:REASON_CHARACTERS] if reason else None
    finite = {name: value for name, value in (metrics or {}).items() if math.isfinite(value)}
    values = {"status": status, "reason": short, "finished": now(), "weights_digest": weights_digest}
    connection.execute(update(runs).where(runs.c.run_id == run_id).values(**values, metrics=finite))


def get(connection: Connection, run_id: str) -> RunRecord:
    """The run. Raises NotFound."""
    row = connection.execute(select(runs).where(runs.c.run_id == run_id)).one_or_none()
    if row is None:
        known = connection.scalars(select(runs.c.run_id).order_by(runs.c.started.desc()).limit(1000))
        raise not_found("runs", "run", run_id, known)
    return _record(row)


def listed(connection: Connection, project: str | None) -> list[RunRecord]:
    """Runs, the latest first."""
    query = select(runs).order_by(runs.c.started.desc(), runs.c.run_id)
    if project is not None:
        query = query.where(runs.c.project == project)
    return [_record(row) for row in connection.execute(query)]


def history(connection: Connection, run_id: str, name: str | None, after_step: int | None) -> list[MetricPoint]:
    """The points of a run by name and step."""
    require(connection, run_id)
    query = select(metric_points).where(metric_points.c.run_id == run_id)
    if name is not None:
        query = query.where(metric_points.c.name == name)
    if after_step is not None:
        query = query.where(metric_points.c.step > after_step)
    return [_point(row) for row in connection.execute(query.order_by(metric_points.c.name, metric_points.c.step))]


def latest(connection: Connection, run_id: str) -> dict[str, MetricPoint]:
    """The last point of each metric. A few look-ups in the index for each: a long run has millions of points."""
    require(connection, run_id)
    found: dict[str, MetricPoint] = {}
    of_run = metric_points.c.run_id == run_id
    name = connection.scalar(select(func.min(metric_points.c.name)).where(of_run))
    while name is not None:
        query = select(metric_points).where(of_run, metric_points.c.name == name)
        found[name] = _point(connection.execute(query.order_by(metric_points.c.step.desc()).limit(1)).one())
        name = connection.scalar(select(func.min(metric_points.c.name)).where(of_run, metric_points.c.name > name))
    return found


def require(connection: Connection, run_id: str) -> None:
    """Raise NotFound when there is no such run."""
    if connection.scalar(select(runs.c.run_id).where(runs.c.run_id == run_id)) is None:
        get(connection, run_id)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings by dotted name; an empty section is a leaf."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _point(row: Row[Any]) -> MetricPoint:
    return MetricPoint(row.name, row.step, math.nan if row.value is None else row.value, row.time)


def _record(row: Row[Any]) -> RunRecord:
    values = dict(row._mapping)
    values["environment"] = Environment.parse(values["environment"], where="registry")
    values["code"] = Code.parse(values["code"], where="registry")
    return RunRecord(**values)
