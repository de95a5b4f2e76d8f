"""What the modules of the registry share: time, upserts, and errors that name what is there."""

import difflib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from fairlead.errors import NotFound


def now() -> str:
    """This moment in UTC, in a form that sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], update: Sequence[str] = ()) -> None:
    """Insert `rows`; where the key is taken, replace the columns `update`, or leave the row as it is."""
    if not rows:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    key = list(table.primary_key.columns)
    if update:
        changed = {name: statement.excluded[name] for name in update}
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), list(rows))
    else:
        connection.execute(statement.on_conflict_do_nothing(index_elements=key), list(rows))


def not_found(where: str, what: str, asked: str, known: Iterable[str]) -> NotFound:
    """The error for a name that does not exist, with the nearest ones that do."""
    names = sorted(known)
    near = difflib.get_close_matches(asked, names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(repr(name) for name in near)}?"
    elif names:
        more = ", ..." if len(names) > 10 else ""
        hint = f"known are {', '.join(names[:10])}{more}"
    else:
        hint = "the registry has none yet: run the pipeline first"
    return NotFound(f"{where}: there is no {what} {asked!r}; {hint}")
