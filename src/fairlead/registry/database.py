"""A database by URL: connections, transactions and locks, and the sentence for each of its failures."""

import fcntl
import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fairlead.errors import ConfigError, RegistryError
from fairlead.names import REGISTRY_ENV

# A writer waits this long for the others; 64 registrations at once need a few seconds on a slow disk.
SECONDS_TO_WAIT_FOR_A_LOCK = 60
SECONDS_TO_CONNECT = 10
# Lock files of SQLite: enough that two uploads rarely share one, few enough that they need no cleaning.
NUM_LOCK_FILES = 64


class Database:
    """SQLite in WAL mode or PostgreSQL; safe to share between threads, not between forked processes."""

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        self.url = shown(parsed)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.path = Path(parsed.database or "").absolute()
        self._engine = _create_engine(parsed, self)
        self._writer = self._engine.execution_options(fairlead_writes=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot to read from."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of it or nothing. On SQLite it holds the only write lock from the start."""
        with self._translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """One transaction that no other process migrates beside."""
        if self.is_sqlite:
            with self._file_lock("migration", wait=True), self._translated():
                # Persistent, and only possible outside a transaction. Not concurrent: SQLite does not wait here.
                with self._engine.connect() as connection:
                    connection.connection.cursor().execute("PRAGMA journal_mode=WAL")
                with self._writer.begin() as connection:
                    yield connection
        else:
            with self.writing() as connection:
                connection.execute(select(func.pg_advisory_xact_lock(_lock_number("migration"))))
                yield connection

    @contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Hold the lock `name` among all processes; it goes with the process that dies.

        Yields False when `wait` is False and another holds it.
        """
        holder = self._file_lock(name, wait) if self.is_sqlite else self._advisory_lock(name, wait)
        with holder as held:
            yield held

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _file_lock(self, name: str, wait: bool) -> Iterator[bool]:
        folder = self.path.with_name(self.path.name + "-locks")
        with self._translated():
            folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(folder / f"{_lock_number(name) % NUM_LOCK_FILES:02d}", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield _flock(fd, wait)
        finally:
            os.close(fd)

    @contextmanager
    def _advisory_lock(self, name: str, wait: bool) -> Iterator[bool]:
        function = func.pg_advisory_lock if wait else func.pg_try_advisory_lock
        with self._translated():
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self._translated():
                # Detached: closing it ends the session and with it the lock, even when the connection is broken.
                connection.detach()
                held = connection.scalar(select(function(_lock_number(name))))
            yield held is not False
        finally:
            connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            raise RegistryError(self.sentence(error)) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise ConfigError(f"registry: a value cannot be stored ({error}); correct the name or number") from error

    def sentence(self, error: Exception) -> str:
        """The one-line form of a failure of the database."""
        if isinstance(error, PoolTimeout):
            reason = "every connection is in use"
        elif isinstance(error, DBAPIError) and error.orig is not None:
            reason = str(error.orig)
        else:
            reason = str(error)
        reason = " ".join(reason.split()) or type(error).__name__
        return f"registry {self.url}: {reason}; check that it can be reached and written ({REGISTRY_ENV}) and run again"


def parse_url(url: str) -> URL:
    """Read a registry's URL. Raises ConfigError, which never shows the URL: it may hold a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The cause is left out because its text may quote the part of the URL where a password stands.
        raise ConfigError(
            f"{REGISTRY_ENV}: it is not a database URL; write sqlite:///<file> or postgresql://<user>@<host>/<database>"
        ) from None
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    raise ConfigError(
        f"{REGISTRY_ENV}: {shown(parsed)} is neither PostgreSQL nor a file of SQLite; "
        "write sqlite:///<file> or postgresql://<user>@<host>/<database>"
    )


def shown(url: URL) -> str:
    """A URL as people may see it: no password, neither beside the user nor among libpq's parameters."""
    secret = {name: "***" for name in url.query if "pass" in name.lower()}
    return url.update_query_dict(secret).render_as_string(hide_password=True)


def _create_engine(url: URL, database: Database) -> Any:
    common: dict[str, Any] = {"hide_parameters": True, "json_serializer": _to_json, "pool_timeout": 120}
    if not database.is_sqlite:
        arguments = {"connect_timeout": SECONDS_TO_CONNECT, "application_name": "fairlead"}
        try:
            # A training run leaves its connection idle for minutes: it is tested before it is used again.
            engine = create_engine(
                url, connect_args=arguments, pool_pre_ping=True, isolation_level="READ COMMITTED", **common
            )
        except ModuleNotFoundError as error:
            raise ConfigError(f"{REGISTRY_ENV}: psycopg is not here; install fairlead[postgres]") from error
        event.listen(engine, "do_connect", _on_postgres_connect)
        return engine
    try:
        database.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryError(database.sentence(error)) from error
    engine = create_engine(url, connect_args={"timeout": SECONDS_TO_WAIT_FOR_A_LOCK}, **common)
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: _on_sqlite_begin does, before the first read too.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")


def _on_sqlite_begin(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once: a transaction that reads first and writes later could
    # otherwise fail in the middle, because SQLite does not wait when its snapshot is old.
    writes = connection.get_execution_options().get("fairlead_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _on_postgres_connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
    """Connect, and wait for a place while the server is full: its default is 100 for everybody."""
    deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_A_LOCK
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError as error:
            full = "too many clients" in str(error) or "connection slots" in str(error)
            if not full or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - spreads the waiting processes


def _to_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"fairlead/{name}".encode()).digest()[:8], "big", signed=True)


def _flock(fd: int, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
