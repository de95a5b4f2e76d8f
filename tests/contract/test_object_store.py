"""The contract of ObjectStore, on every implementation."""

from pathlib import Path

import pytest

from fairlead.errors import ConfigError, IntegrityError, NotFound
from fairlead.formats.digests import of_bytes
from fairlead.storage import ObjectStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


def test_what_is_put_is_read_back(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("a/b.json", b"one")
    store.put_bytes("a/b.json", b"two")
    assert store.get_bytes("a/b.json") == b"two"
    store.get_file("a/b.json", tmp_path / "out", of_bytes(b"two"))
    assert (tmp_path / "out").read_bytes() == b"two"
    assert [(s.key, s.size) for s in store.list("")] == [("a/b.json", 3)]


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\\b", "a\nb", ".fairlead-x", "x" * 256]
)
def test_a_hostile_key_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ConfigError, match="key"):
        store.put_bytes(key, b"")
    with pytest.raises(ConfigError, match="key"):
        store.get_bytes(key)


def test_a_missing_object_is_not_found(store: ObjectStore) -> None:
    for ask in (store.get_bytes, store.stat):
        with pytest.raises(NotFound, match="no such object"):
            ask("nothing")
    store.delete("nothing")


def test_a_corrupted_object_is_found_by_its_digest(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("a", b"tampered")
    (tmp_path / "out").write_bytes(b"before")
    with pytest.raises(IntegrityError, match="sha256"):
        store.get_file("a", tmp_path / "out", of_bytes(b"right"))
    assert (tmp_path / "out").read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.glob(".*.part")) == []
