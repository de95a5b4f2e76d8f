"""Resumed downloads, over sources that do exactly what a test says."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.errors import IntegrityError, StorageError
from fairlead.formats.digests import of_bytes
from fairlead.storage import resume
from fairlead.storage.resume import Interrupted, Remote, fetch, part_path

CONTENT = bytes(range(200))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "FIRST_PAUSE_SECONDS", 0.0)


def remote(etag: str = "v1", step: int = 7, asked: list[int] | None = None) -> Remote:
    """A source that breaks off after every `step` bytes."""

    def read(offset: int) -> Iterator[bytes]:
        if asked is not None:
            asked.append(offset)
        yield CONTENT[offset : offset + step]
        raise Interrupted("cut")

    return Remote("https://h/x", etag, len(CONTENT), read)


def test_a_source_that_breaks_off_all_the_time_is_read_to_its_end(tmp_path: Path) -> None:
    asked: list[int] = []
    fetch(remote(asked=asked), tmp_path / "out", of_bytes(CONTENT))
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert asked == list(range(0, 200, 7))


def test_a_source_without_versions_is_never_gone_on_from(tmp_path: Path) -> None:
    part_path(remote(etag=""), tmp_path / "out").write_bytes(b"of another version")
    with pytest.raises(StorageError, match="connection broke: cut"):
        fetch(remote(etag=""), tmp_path / "out")
    fetch(remote(etag="", step=200), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_a_source_that_gives_nothing_is_given_up(tmp_path: Path) -> None:
    asked: list[int] = []
    with pytest.raises(StorageError, match="run again to go on"):
        fetch(remote(step=0, asked=asked), tmp_path / "out")
    assert asked == [0] * resume.MAX_FRUITLESS_TRIES


def test_a_source_that_ends_early_is_not_taken_for_whole(tmp_path: Path) -> None:
    short = Remote("https://h/x", "v1", len(CONTENT), lambda offset: iter([CONTENT[offset:150]]))
    with pytest.raises(StorageError, match="ended after 150 of 200 bytes"):
        fetch(short, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_digest_leaves_neither_file_nor_part(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="https://h/x: its content has sha256:"):
        fetch(remote(), tmp_path / "out", of_bytes(b"other"))
    assert list(tmp_path.iterdir()) == []


def test_parts_of_other_versions_are_removed_and_those_of_other_files_kept(tmp_path: Path) -> None:
    stale, other = part_path(remote(etag="v0"), tmp_path / "out"), part_path(remote(), tmp_path / "out.b")
    stale.write_bytes(b"old")
    other.write_bytes(b"in use")
    fetch(remote(), tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"out", other.name}


@pytest.mark.parametrize("name", ["x" * 255, "한" * 85, "a[b]*?.csv", ".hidden", "a b"])
def test_any_file_name_can_be_a_target(tmp_path: Path, name: str) -> None:
    part_path(remote(etag="v0"), tmp_path / name).write_bytes(b"old")
    fetch(remote(), tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_two_that_download_to_one_path_take_turns(tmp_path: Path) -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def read(offset: int) -> Iterator[bytes]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        for start in range(offset, len(CONTENT), 10):
            yield CONTENT[start : start + 10]
        with lock:
            inside -= 1

    source = Remote("https://h/x", "v1", len(CONTENT), read)
    threads = [threading.Thread(target=fetch, args=(source, tmp_path / "out")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
