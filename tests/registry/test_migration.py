"""Migrations: made once, the same as the tables in code, and refused when they are newer."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from fairlead.errors import RegistryError
from fairlead.registry import open_registry
from fairlead.registry.database import Database
from fairlead.registry.migration import MIGRATIONS, migrate
from fairlead.registry.tables import HEAD, metadata


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'registry.db'}"


def test_the_newest_revision_is_the_one_that_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_migrations_lead_to_the_tables_in_code(url: str) -> None:
    database = Database(url)
    migrate(database)
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_an_empty_database_is_migrated_once_by_many(url: str) -> None:
    def open_and_write(number: int) -> int:
        with open_registry(url) as registry:
            return registry.reserve_version("topics", str(number)).number

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(open_and_write, range(8))) == list(range(1, 9))


def test_a_registry_of_the_first_release_is_brought_up_and_keeps_its_rows(url: str) -> None:
    database = Database(url)
    with database.migrating() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO projects (name, last_version, created) VALUES ('topics', 7, '2026')"))
    database.close()
    with open_registry(url) as registry:
        assert registry.reserve_version("topics", "closure").number == 8
        assert registry.list_feedback("topics") == []


def test_a_registry_of_a_newer_fairlead_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    open_registry(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RegistryError, match="upgrade Fairlead"):
        open_registry(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_threads_may_migrate_databases_of_their_own_at_once(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for registry in pool.map(open_registry, urls):
            assert registry.list_models() == []
            registry.close()
