"""Bring a database's tables to the newest revision, once, however many processes open it at the same time."""

import threading
from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from fairlead.errors import RegistryError
from fairlead.registry.database import Database
from fairlead.registry.tables import HEAD

MIGRATIONS = Path(__file__).parent / "migrations"
# Alembic keeps what it is doing in its module: two threads that migrate two databases take it from each other.
_alembic_alone = threading.Lock()
_alembic_version = table("alembic_version", column("version_num"))


def migrate(database: Database) -> None:
    """Make or change the tables if they are not at HEAD."""
    with database.reading() as connection:
        if current_revision(connection) == HEAD:
            return
    with database.migrating() as connection:
        # Another process may have been first.
        if current_revision(connection) != HEAD:
            _upgrade(database, connection)


def current_revision(connection: Connection) -> str | None:
    """The revision of the tables, None in an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(select(_alembic_version.c.version_num))
    return revision


def _upgrade(database: Database, connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # ConfigParser reads %.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        with _alembic_alone:
            command.upgrade(config, "head")
    except CommandError as error:
        raise RegistryError(
            f"registry {database.url}: its tables cannot be migrated ({error}); "
            "a newer Fairlead may have written them: upgrade Fairlead or use another registry"
        ) from error
