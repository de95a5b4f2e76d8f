"""A real PostgreSQL for tests: the one that FAIRLEAD_TEST_POSTGRES names, or a private one in a temporary folder.

A private server listens on a Unix socket only. PostgreSQL refuses to run as root, so root starts it
as `postgres` or `nobody`.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SERVER_ENV = "FAIRLEAD_TEST_POSTGRES"
SECONDS_TO_START = 60


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server whose user may make databases. Skips with a reason where there is none."""
    given = os.environ.get(SERVER_ENV)
    if given:
        yield given
        return
    programs = find_programs()
    if programs is None:
        pytest.skip(f"no PostgreSQL here: set {SERVER_ENV}, or install Debian's package postgresql")
    with _server(programs) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty database that is dropped after the test."""
    from sqlalchemy import make_url

    name = f"fairlead_{uuid.uuid4().hex}"
    execute(postgres_server, f'CREATE DATABASE "{name}"')
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    execute(postgres_server, f'DROP DATABASE "{name}" WITH (FORCE)')


def find_programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


@contextmanager
def _server(programs: Path) -> Iterator[str]:
    # A socket's path has at most 107 bytes, which pytest's own folders may exceed.
    folder = Path(tempfile.mkdtemp(prefix="fairlead-pg-"))
    account = _account()
    if account:
        os.chown(folder, account["user"], account["group"])
    try:
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "fairlead", "--auth=trust", "--no-sync"]
        command = [*initdb, "--encoding=UTF8", "--locale=C"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **account)
        with _running(programs, folder, account):
            yield f"postgresql://fairlead@/postgres?host={folder}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(programs: Path, folder: Path, account: dict[str, Any]) -> Iterator[None]:
    # Its own limit of connections (100) is left as it is: what a user finds.
    options = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    command = [programs / "postgres", "-D", folder / "data", *settings]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **account)
    try:
        _wait_until_ready(server, f"postgresql://fairlead@/postgres?host={folder}", folder / "log")
        yield
    finally:
        # The fast shutdown: PostgreSQL ends the sessions that are left.
        server.send_signal(signal.SIGINT)
        server.wait(SECONDS_TO_START)


def _wait_until_ready(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {log.read_text('utf-8', 'replace')}")
            time.sleep(0.05)


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


def execute(url: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
