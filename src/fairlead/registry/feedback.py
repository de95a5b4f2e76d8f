"""Rows of feedback: the true label of a text that was predicted.

The last label counts, whenever it comes. Sent again it changes nothing; another one takes its place, and `revisions`
counts the changes.
"""

from typing import Any

from sqlalchemy import Connection, Row, Select, select, update
from sqlalchemy.dialects import postgresql, sqlite

from fairlead.registry.queries import now
from fairlead.registry.records import Feedback, FeedbackRecord, FeedbackStatus
from fairlead.registry.tables import feedback


def record(connection: Connection, given: Feedback) -> FeedbackStatus:
    """Keep a true label."""
    moment = now()
    values = {
        "prediction_id": given.prediction_id,
        "index": given.index,
        "label": given.label,
        "project": given.project,
        "number": given.number,
        "answer": given.answer,
        "first_received": moment,
        "received": moment,
        "revisions": 0,
    }
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # Two servers may be told of one prediction at once: the second waits here for the first.
    statement = insert(feedback).values(values).on_conflict_do_nothing().returning(feedback.c.index)
    return "stored" if connection.execute(statement).first() else _replace(connection, given, moment)


def _replace(connection: Connection, given: Feedback, moment: str) -> FeedbackStatus:
    one = (feedback.c.prediction_id == given.prediction_id) & (feedback.c.index == given.index)
    known = _record(connection.execute(select(feedback).where(one).with_for_update()).one())
    found = {"project": given.project, "number": given.number, "answer": given.answer}
    changes: dict[str, Any] = found if known.project is None and given.project is not None else {}
    same = known.label == given.label
    if not same:
        changes |= {"label": given.label, "received": moment, "revisions": known.revisions + 1}
    if changes:
        connection.execute(update(feedback).where(one).values(changes))
    return "unchanged" if same else "replaced"


def of_prediction(connection: Connection, prediction_id: str) -> list[FeedbackRecord]:
    """What is known of a prediction, by the text's index."""
    one = select(feedback).where(feedback.c.prediction_id == prediction_id)
    return _records(connection, one.order_by(feedback.c.index))


def of_project(connection: Connection, project: str | None, number: int | None) -> list[FeedbackRecord]:
    """The feedback of a project's version, or of all of them, in the order of the predictions.

    Without a project, that whose predictions were not found yet.
    """
    query = select(feedback).where(feedback.c.project == project if project else feedback.c.project.is_(None))
    if number is not None:
        query = query.where(feedback.c.number == number)
    return _records(connection, query.order_by(feedback.c.prediction_id, feedback.c.index))


def _records(connection: Connection, query: Select[Any]) -> list[FeedbackRecord]:
    return [_record(row) for row in connection.execute(query)]


def _record(row: Row[Any]) -> FeedbackRecord:
    return FeedbackRecord(**row._mapping)
