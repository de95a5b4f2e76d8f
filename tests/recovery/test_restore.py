"""The restore drill: registry and store from a backup, on servers that have never seen them; every version verifies."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from sqlalchemy import make_url

from fairlead import places
from fairlead.cli.main import main
from fairlead.registry import open_registry
from fairlead.registry.verification import verify_versions
from tests.postgres import execute, find_programs


def run(program: str, *arguments: str) -> None:
    folder = find_programs()
    assert folder is not None
    subprocess.run([str(folder / program), *arguments], check=True, capture_output=True)


def libpq(url: str) -> str:
    """The URL as PostgreSQL's own programs read it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def other_database(postgres_server: str) -> Iterator[str]:
    name = f"fairlead_restored_{uuid.uuid4().hex}"
    execute(postgres_server, f'CREATE DATABASE "{name}"')
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    execute(postgres_server, f'DROP DATABASE "{name}" WITH (FORCE)')


def copy_bucket(source: str, target: str) -> int:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    names = [source.removeprefix("s3://"), target.removeprefix("s3://")]
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=names[0]).get("Contents", [])]
    for key in keys:
        client.copy_object(Bucket=names[1], Key=key, CopySource={"Bucket": names[0], "Key": key})
    return len(keys)


@pytest.mark.postgres
@pytest.mark.skipif(find_programs() is None, reason="PostgreSQL's programs are not installed")
def test_everything_is_there_after_a_restore(
    register, postgres_url, other_database, s3_url, make_bucket, tmp_path, monkeypatch, capsys
):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("FAIRLEAD_REGISTRY", postgres_url)
    monkeypatch.setenv("FAIRLEAD_STORE", s3_url)
    for seed in range(3):
        register(seed)
    dump = tmp_path / "registry.dump"
    run("pg_dump", "--format", "custom", "--file", str(dump), "--dbname", libpq(postgres_url))
    restored = f"s3://{make_bucket()}"
    assert copy_bucket(s3_url, restored) > 3

    run("pg_restore", "--exit-on-error", "--no-owner", "--dbname", libpq(other_database), str(dump))
    monkeypatch.setenv("FAIRLEAD_REGISTRY", other_database)
    monkeypatch.setenv("FAIRLEAD_STORE", restored)
    assert main(["store", "verify"]) == 0
    said = capsys.readouterr().out
    assert [f"support_topics_v{n}" in said for n in (1, 2, 3)] == [True] * 3
    assert said.count("whole") == 3
    with open_registry() as registry:
        champion = registry.champion("support_topics")
        assert champion is not None
        assert champion.number == 3
        assert [v.number for v in registry.list_versions("support_topics")] == [1, 2, 3]
        # A number that was used is not used again.
        assert registry.reserve_version("support_topics", "another closure").number == 4


def test_what_a_restore_has_lost_or_changed_is_named(register, tmp_path, capsys):  # type: ignore[no-untyped-def]
    for seed in range(3):
        register(seed)
    models = Path(places.store_url()) / "models" / "support_topics"
    (models / "v0001" / "config.json").unlink()
    weights = models / "v0002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with open_registry() as registry:
        found = {v.version: v.problem for v in verify_versions(registry, places.store_url())}
    assert "config.json" in (found["support_topics_v1"] or "")
    assert "model.safetensors" in (found["support_topics_v2"] or "")
    assert found["support_topics_v3"] is None
    assert main(["store", "verify"]) == 2
    assert "2 of 3 versions differ" in capsys.readouterr().err
