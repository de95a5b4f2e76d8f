"""The contract of ObjectStore, on every implementation: a folder, and S3 over a real server."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fairlead.errors import ConfigError, IntegrityError, NotFound
from fairlead.formats.digests import of_bytes
from fairlead.storage import ObjectStore, open_store
from fairlead.storage.folders import download, publish, remove

MIB = 1 << 20
HOSTILE = ["", "/a", "a/", "a//b", "..", "../a", "a/../b", "./a", "a\\b", "a\nb", ".fairlead-x", "x" * 256, "é/" * 400]


@pytest.fixture(params=["folder", "s3", "s3 under a prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    url = request.getfixturevalue("s3_url")
    return open_store(url if request.param == "s3" else f"{url}/team/a")


def content_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def test_what_is_put_is_read_back(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("a/b.json", b"one")
    store.put_bytes("a/b.json", b"two")
    (tmp_path / "in").write_bytes(b"three")
    store.put_file("a/c", tmp_path / "in")
    store.get_file("a/c", tmp_path / "deep" / "out", of_bytes(b"three"))
    assert store.get_bytes("a/b.json") == b"two"
    assert (tmp_path / "deep" / "out").read_bytes() == b"three"
    assert [(s.key, s.size) for s in store.list("")] == [("a/b.json", 3), ("a/c", 5)]


@pytest.mark.parametrize(
    "key", ["plain", "a b+c%20&d=e.json", "übermaß/한국어.txt", "..a/b..", ".hidden", "a:b@c;d,e'f(g)*~"]
)
def test_any_legal_key_is_kept_as_it_is(store: ObjectStore, key: str) -> None:
    store.put_bytes(key, key.encode())
    assert store.get_bytes(key) == key.encode()
    assert [s.key for s in store.list(key[:1])] == [key]
    store.delete(key)
    assert list(store.list("")) == []


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_refused(store: ObjectStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "in").touch()
    for ask in (store.get_bytes, store.stat, store.delete, lambda k: store.put_bytes(k, b"")):
        with pytest.raises(ConfigError, match="key"):
            ask(key)
    with pytest.raises(ConfigError, match="key"):
        store.put_file(key, tmp_path / "in")
    with pytest.raises(ConfigError, match="key"):
        store.get_file(key, tmp_path / "out")


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "..//", "a//b", "/etc/"])
def test_a_hostile_prefix_is_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(ConfigError, match="key"):
        list(store.list(prefix))


def test_a_missing_object_is_not_found(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("folder/object", b"")
    for key in ("nothing", "folder", "folder/object/below"):
        for ask in (store.get_bytes, store.stat, lambda k: store.get_file(k, tmp_path / "out")):
            with pytest.raises(NotFound, match="no such object"):
                ask(key)
        store.delete(key)
    assert store.get_bytes("folder/object") == b""
    with pytest.raises(NotFound, match="no such file"):
        store.put_file("a", tmp_path / "absent")
    assert not (tmp_path / "out").exists()


def test_stat_tells_size_time_and_a_new_etag_for_every_content(store: ObjectStore) -> None:
    store.put_bytes("a", b"one")
    before = store.stat("a")
    assert list(store.list("a")) == [before]
    assert abs(datetime.now(UTC) - before.modified) < timedelta(minutes=5)
    store.put_bytes("a", b"two")
    assert store.stat("a").etag != before.etag
    assert store.stat("a").size == 3


def test_listing_goes_past_1000_keys_in_key_order(store: ObjectStore) -> None:
    keys = [f"many/{i:04d}" for i in range(1100)] + ["many", "many!", "many0", "other/a"]
    if store.url.startswith("/"):
        keys.remove("many")  # a file system has no file beside a folder of the same name
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: store.put_bytes(key, b""), keys))
    assert [s.key for s in store.list("")] == sorted(keys)
    assert [s.key for s in store.list("many/")] == sorted(k for k in keys if k.startswith("many/"))
    assert [s.key for s in store.list("many/00")] == [f"many/{i:04d}" for i in range(100)]
    assert [s.key for s in store.list("man")] == sorted(k for k in keys if k.startswith("man"))
    assert list(store.list("nothing/")) == []


def test_a_large_file_goes_in_parts_and_comes_back_whole(store: ObjectStore, tmp_path: Path) -> None:
    content = content_of(40 * MIB + 7)
    (tmp_path / "in").write_bytes(content)
    up: list[int] = []
    down: list[int] = []
    store.put_file("large", tmp_path / "in", up.append)
    store.get_file("large", tmp_path / "out", of_bytes(content), down.append)
    assert (tmp_path / "out").read_bytes() == content
    assert sum(up) == sum(down) == len(content)
    assert len(up) > 1 and len(down) > 1


def test_a_corrupted_object_is_found_by_its_digest(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("a", b"tampered")
    (tmp_path / "out").write_bytes(b"before")
    with pytest.raises(IntegrityError, match="sha256"):
        store.get_file("a", tmp_path / "out", of_bytes(b"right"))
    assert (tmp_path / "out").read_bytes() == b"before"
    assert list(tmp_path.glob(".*.part")) == []


def test_concurrent_writers_leave_one_whole_object(store: ObjectStore, tmp_path: Path) -> None:
    contents = {content_of(MIB, seed) for seed in range(8)}
    store.put_bytes("shared", next(iter(contents)))
    stop = threading.Event()

    def read() -> set[bytes]:
        seen = set()
        while not stop.is_set():
            seen.add(store.get_bytes("shared"))
        return seen

    with ThreadPoolExecutor(9) as pool:
        reader = pool.submit(read)
        for write in [pool.submit(store.put_bytes, "shared", content) for content in contents]:
            write.result()
        stop.set()
        seen = reader.result()
    assert {*seen, store.get_bytes("shared")} <= contents
    assert len(list(store.list(""))) == 1


def test_concurrent_downloads_to_one_path_leave_it_whole(store: ObjectStore, tmp_path: Path) -> None:
    content = content_of(3 * MIB)
    store.put_bytes("a", content)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.get_file("a", tmp_path / "out", of_bytes(content)), range(4)))
    assert (tmp_path / "out").read_bytes() == content
    assert list(tmp_path.glob(".*.part")) == []


def write_version(folder: Path) -> None:
    (folder / "variants").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"weights")
    (folder / "variants" / "int8.bin").write_bytes(b"small")
    (folder / "zzz.txt").write_bytes(b"after the manifest in the alphabet")
    (folder / "fairlead.json").write_bytes(b"{}")


def test_a_folder_is_published_with_its_manifest_last(store: ObjectStore, tmp_path: Path) -> None:
    write_version(tmp_path / "in")
    order: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def put_file(self, key: str, *args: object) -> None:
            order.append(key)
            # Whatever a reader sees now, it is not a version without its files.
            assert not list(store.list("models/topics/v0001/fairlead.json"))
            store.put_file(key, *args)  # type: ignore[arg-type]

    publish(Watched(), tmp_path / "in", "models/topics/v0001/", "fairlead.json")  # type: ignore[arg-type]
    assert order[-1] == "models/topics/v0001/fairlead.json" and len(order) == 4
    download(store, "models/topics/v0001/", tmp_path / "out", "fairlead.json")
    names = {"a.bin", "variants/int8.bin", "zzz.txt", "fairlead.json"}
    assert {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()} == names
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"weights"
    assert remove(store, "models/topics/v0001/", "fairlead.json") == 4
    assert list(store.list("")) == []


def test_a_half_published_folder_does_not_exist(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("v/a.bin", b"weights")
    with pytest.raises(NotFound, match=r"no fairlead\.json"):
        download(store, "v/", tmp_path / "out", "fairlead.json")
    with pytest.raises(NotFound, match="no object"):
        download(store, "w/", tmp_path / "out")
    with pytest.raises(NotFound, match=r"fairlead\.json"):
        publish(store, tmp_path, "w/", "fairlead.json")
    assert not (tmp_path / "out").exists()


def test_a_download_by_digests_checks_each_file_and_keeps_what_is_right(store: ObjectStore, tmp_path: Path) -> None:
    write_version(tmp_path / "in")
    publish(store, tmp_path / "in", "v/", "fairlead.json")
    digests = {"a.bin": of_bytes(b"weights"), "variants/int8.bin": of_bytes(b"small")}
    out = tmp_path / "out"
    download(store, "v/", out, "fairlead.json", digests)
    assert not (out / "zzz.txt").exists()
    kept = (out / "a.bin").stat().st_ino
    (out / "variants" / "int8.bin").write_bytes(b"damaged")
    download(store, "v/", out, "fairlead.json", digests)
    assert (out / "variants" / "int8.bin").read_bytes() == b"small"
    assert (out / "a.bin").stat().st_ino == kept
    store.put_bytes("v/a.bin", b"tampers")
    (out / "a.bin").unlink()
    with pytest.raises(IntegrityError, match=r"v/a\.bin"):
        download(store, "v/", out, "fairlead.json", digests)
