"""Addresses of registries: which are taken, and that no message shows a password."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.errors import ConfigError, FairleadError, RegistryError
from fairlead.registry import open_registry
from fairlead.registry.database import parse_url


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:hunter2@db/fairlead",
        "sqlite://",
        "sqlite:///:memory:",
        "registry.db",
        "postgresql://me:hunter2@db:hunter2port/fairlead",
        "postgresql://me:hunter2@db@db:54x32/f",
        "",
    ],
)
def test_other_addresses_are_refused_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match="FAIRLEAD_REGISTRY") as caught:
        parse_url(url)
    assert "hunter2" not in str(caught.value) and "hunter2" not in repr(caught.value.__cause__)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_postgresql_is_spoken_through_psycopg_3(scheme: str) -> None:
    assert parse_url(f"{scheme}://me@db/fairlead").drivername == "postgresql+psycopg"


def test_an_unreachable_database_is_one_sentence_without_the_password() -> None:
    with pytest.raises(RegistryError, match="run again") as caught:
        open_registry("postgresql://me:hunter2@127.0.0.1:1/fairlead?sslpassword=hunter2")
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)
    assert "me:***@127.0.0.1" in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(b"not a database, and precious" * 100)
    with pytest.raises(RegistryError, match="not a database"):
        open_registry(f"sqlite:///{path}")
    assert path.read_bytes() == b"not a database, and precious" * 100


def test_a_folder_that_cannot_be_made_is_a_registry_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryError, match="registry sqlite"):
        open_registry(f"sqlite:///{tmp_path / 'file' / 'registry.db'}")


def test_sqlite_is_in_wal_mode(tmp_path: Path) -> None:
    open_registry(f"sqlite:///{tmp_path / 'registry.db'}").close()
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_importing_the_registry_imports_no_database_library(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    open_registry(url).close()
    program = (
        "import sys, fairlead.registry as r\n"
        "assert not {'sqlalchemy', 'alembic'} & sys.modules.keys()\n"
        f"r.open_registry({url!r}).list_models()\n"
        "assert not {'alembic', 'psycopg', 'pyarrow', 'torch'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_every_error_is_of_the_tree(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    registry = open_registry(f"sqlite:///{path}")
    registry.close()
    path.write_bytes(b"damaged" * 4096)
    with pytest.raises(FairleadError, match="registry sqlite"):
        registry.list_models()


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    open_registry(url).close()
    # A limit on the size of files stops SQLite as a full disk does.
    program = (
        "import resource, signal\n"
        "from fairlead.errors import RegistryError\n"
        "from fairlead.registry import open_registry\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"registry = open_registry({url!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
        "try:\n"
        "    for number in range(10_000):\n"
        "        registry.reserve_version('topics', str(number))\n"
        "except RegistryError as error:\n"
        "    print(number, error)\n"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    done, sentence = output.stdout.split(maxsplit=1)
    assert sentence.startswith("registry sqlite") and sentence.count("\n") == 1
    with open_registry(url) as registry:
        assert len(registry.pending_versions()) == int(done) > 0


def test_a_value_that_cannot_be_stored_is_a_config_error(tmp_path: Path) -> None:
    # Bytes of the command line that are not UTF-8 arrive as lone surrogates.
    with open_registry(f"sqlite:///{tmp_path / 'registry.db'}") as registry:
        with pytest.raises(ConfigError, match="cannot be stored"):
            registry.get_run("run-\udcff")
        with pytest.raises(ConfigError, match="cannot be stored"):
            registry.get_version("topics", 2**70)
