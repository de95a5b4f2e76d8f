"""What only a folder can do wrong: links, full disks, files in the way, killed writers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairlead.errors import NotFound, StorageError
from fairlead.formats.digests import of_bytes
from fairlead.storage import open_store
from fairlead.storage.directory import UNFINISHED, UNFINISHED_SECONDS
from fairlead.storage.folders import publish

SCRIPT = "import os, resource, signal, sys\nfrom pathlib import Path\nfrom fairlead.storage import open_store\n"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT + script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_symbolic_link_is_no_object_and_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(b"secret")
    store = open_store(str(tmp_path / "store"))
    store.put_bytes("a", b"a")
    (tmp_path / "store" / "file").symlink_to(tmp_path / "secret" / "key")
    (tmp_path / "store" / "folder").symlink_to(tmp_path / "secret")
    for key in ("file", "folder/key"):
        for ask in (store.get_bytes, store.stat, store.delete, lambda k: store.put_bytes(k, b"x")):
            with pytest.raises(StorageError, match="symbolic link"):
                ask(key)
    assert [s.key for s in store.list("")] == ["a"]
    assert list(store.list("folder/")) == []
    assert (tmp_path / "secret" / "key").read_bytes() == b"secret"


def test_a_store_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "real")
    store = open_store(str(tmp_path / "store"))
    store.put_bytes("a/b", b"x")
    assert (tmp_path / "real" / "a" / "b").read_bytes() == b"x"
    assert [s.key for s in store.list("")] == ["a/b"]


def test_publish_leaves_links_and_hidden_files_behind(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "last").write_bytes(b"")
    (folder / ".hidden").write_bytes(b"")
    (folder / "link").symlink_to("/etc/passwd")
    store = open_store(str(tmp_path / "store"))
    publish(store, folder, "v/", "last")
    assert [s.key for s in store.list("")] == ["v/last"]


def test_a_full_disk_is_told_in_one_sentence_and_nothing_half_is_seen(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put_bytes("a", b"old")
    (tmp_path / "in").write_bytes(bytes(3 << 20))
    # A limit on file size answers as a full disk does (EFBIG for ENOSPC), and needs no disk of its own.
    script = (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "store = open_store(sys.argv[1])\n"
        "for ask in (lambda: store.put_file('a', Path(sys.argv[2])), lambda: store.put_bytes('b', bytes(2 << 20))):\n"
        "    try: ask()\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = run(script, store.url, str(tmp_path / "in"))
    first, second = done.stdout.splitlines()
    assert first == f"StorageError {tmp_path}/store/a: the disk is full; free space, then run again"
    assert second.startswith(f"StorageError {tmp_path}/store/b: the disk is full")
    assert store.get_bytes("a") == b"old"
    assert [s.key for s in store.list("")] == ["a"]
    assert list((tmp_path / "store" / UNFINISHED).iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, stderr=-3)
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount")
    return folder


def test_a_disk_that_fills_up_is_told_and_the_download_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    try:
        content = os.urandom(1 << 20)
        store = open_store(str(tmp_path / "store"))
        store.put_bytes("a", content)
        (small_disk / "ballast").write_bytes(bytes(3 << 19))
        with pytest.raises(StorageError, match=r"the disk is full.*; free space, then run again"):
            store.get_file("a", small_disk / "out")
        assert not (small_disk / "out").exists()
        with pytest.raises(StorageError, match="the disk is full"):
            open_store(str(small_disk)).put_bytes("a", content)
        (small_disk / "ballast").unlink()
        store.get_file("a", small_disk / "out", of_bytes(content))
        assert (small_disk / "out").read_bytes() == content
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)


def test_a_killed_writer_leaves_nothing_visible_and_its_rest_is_removed_later(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put_bytes("a", b"old")
    (tmp_path / "in").write_bytes(bytes(8 << 20))
    script = "open_store(sys.argv[1]).put_file('a', Path(sys.argv[2]), lambda _: os.kill(os.getpid(), signal.SIGKILL))"
    assert run(script, store.url, str(tmp_path / "in")).returncode == -9
    assert store.get_bytes("a") == b"old"
    assert [s.key for s in store.list("")] == ["a"]
    (rest,) = (tmp_path / "store" / UNFINISHED).iterdir()
    store.put_bytes("b", b"")
    assert rest.exists()  # it might still be written
    old = time.time() - UNFINISHED_SECONDS - 60
    os.utime(rest, (old, old))
    store.put_bytes("b", b"")
    assert not rest.exists()


def test_a_killed_copy_goes_on(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    content = os.urandom(8 << 20)
    store.put_bytes("a", content)
    script = (
        "def advance(_, done=[0]):\n"
        "    done[0] += 1\n"
        "    if done[0] == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "open_store(sys.argv[1]).get_file('a', Path(sys.argv[2]), None, advance)"
    )
    assert run(script, store.url, str(tmp_path / "out")).returncode == -9
    told: list[int] = []
    store.get_file("a", tmp_path / "out", of_bytes(content), told.append)
    assert told[0] >= 3 << 20 and sum(told) == len(content)
    assert (tmp_path / "out").read_bytes() == content


def test_a_file_where_a_folder_is_needed_is_told(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put_bytes("a", b"")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        store.put_bytes("a/b", b"")
    (tmp_path / "store" / "c" / "d").mkdir(parents=True)
    with pytest.raises(StorageError, match="or a folder where a file is"):
        store.put_bytes("c", b"")
    with pytest.raises(NotFound):
        store.get_bytes("c")


@pytest.mark.skipif(os.geteuid() == 0, reason="root is refused nothing")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="correct the permissions"):
        open_store(str(tmp_path / "store")).put_bytes("a", b"")


def test_a_deleted_object_takes_its_empty_folders_along_but_not_the_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put_bytes("a/b/c", b"")
    store.put_bytes("a/d", b"")
    store.delete("a/b/c")
    assert not (tmp_path / "store" / "a" / "b").exists()
    store.delete("a/d")
    assert (tmp_path / "store").is_dir() and not (tmp_path / "store" / "a").exists()


def test_objects_can_be_read_by_others(tmp_path: Path) -> None:
    open_store(str(tmp_path / "store")).put_bytes("a", b"")
    assert (tmp_path / "store" / "a").stat().st_mode & 0o777 == 0o644


def test_opening_a_store_imports_no_client(tmp_path: Path) -> None:
    script = (
        "open_store(sys.argv[1])\nimport fairlead.storage.sources\n"
        "print([m for m in ('minio', 'httpx', 'huggingface_hub', 'torch') if m in sys.modules])\n"
        "import fairlead.storage.s3, fairlead.storage.web, fairlead.storage.hub\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert run(script, str(tmp_path)).stdout == "[]\n[]\n"
