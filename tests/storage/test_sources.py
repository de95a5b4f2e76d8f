"""Addresses become local files: downloaded once, resumed, checked, and never printed with credentials."""

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.errors import ConfigError, DataError, IntegrityError, NotFound, StorageError
from fairlead.formats.digests import of_bytes
from fairlead.storage import open_store, web
from fairlead.storage.sources import fingerprint, localize
from tests.web_server import Site, WebServer

CONTENT = random.Random(3).randbytes(5 << 20)


@pytest.fixture
def site() -> Site:
    return Site(files={"/data/tickets.csv": CONTENT})


@pytest.fixture
def server(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
    with WebServer(site) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_a_path_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_bytes(b"x")
    for address in (str(tmp_path / "a b.csv"), f"file://{tmp_path}/a%20b.csv"):
        assert localize(address, tmp_path / "into") == tmp_path / "a b.csv"
        assert fingerprint(address) == of_bytes(b"x")
    assert not (tmp_path / "into").exists()
    with pytest.raises(NotFound, match="no such file or folder"):
        localize(str(tmp_path / "absent"), tmp_path)


def test_a_folders_fingerprint_follows_names_and_content(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "spam").mkdir(parents=True)
    (folder / "spam" / "1.txt").write_bytes(b"a")
    seen = {fingerprint(str(folder))}
    (folder / "spam" / "1.txt").write_bytes(b"b")
    seen.add(fingerprint(str(folder)))
    (folder / "spam" / "1.txt").rename(folder / "spam" / "2.txt")
    seen.add(fingerprint(str(folder)))
    (folder / "spam" / "3.txt").symlink_to("2.txt")  # a model folder in a Hugging Face cache is made of these
    seen.add(fingerprint(str(folder)))
    assert len(seen) == 4


def test_a_web_file_is_downloaded_once_a_version(server: WebServer, site: Site, tmp_path: Path) -> None:
    address = f"{server.url}/data/tickets.csv?format=csv"
    before = fingerprint(address)
    assert site.body_requests() == []
    path = localize(address, tmp_path)
    assert path.name == "tickets.csv" and path.read_bytes() == CONTENT
    assert localize(address, tmp_path) == path
    assert site.body_requests() == [""]
    assert fingerprint(address) == before
    site.files["/data/tickets.csv"] = b"new"
    assert fingerprint(address) != before
    assert localize(address, tmp_path).read_bytes() == b"new"


def test_a_cut_web_download_goes_on_where_it_broke(server: WebServer, site: Site, tmp_path: Path) -> None:
    site.cut_after, site.cuts = 2 << 20, 2
    assert localize(f"{server.url}/data/tickets.csv", tmp_path).read_bytes() == CONTENT
    first, second, third = site.body_requests()
    assert first == "" and second == f"bytes={2 << 20}-" and third == f"bytes={4 << 20}-"


def test_the_next_run_goes_on_from_what_a_failed_one_left(server: WebServer, site: Site, tmp_path: Path) -> None:
    address = f"{server.url}/data/tickets.csv"
    site.cut_after, site.cuts = 1 << 20, 1
    whole = web.inspect(address)

    def busy_after_cut(_: int) -> None:
        site.statuses["/data/tickets.csv"] = [503] * 9

    with pytest.raises(StorageError, match="answers HTTP 503; run again to go on"):
        web.download(whole, tmp_path / "out", advance=busy_after_cut)
    site.statuses.clear()
    web.download(whole, tmp_path / "out", of_bytes(CONTENT))
    assert site.body_requests()[-1] == f"bytes={1 << 20}-"


def test_a_server_without_ranges_or_etags_is_read_whole(server: WebServer, site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.cut_after, site.cuts = 2 << 20, 1
    assert localize(f"{server.url}/data/tickets.csv", tmp_path).read_bytes() == CONTENT
    site.etags = False
    address = f"{server.url}/data/tickets.csv"
    before = fingerprint(address)
    assert before == of_bytes(CONTENT)
    site.files["/data/tickets.csv"] = b"other"
    assert localize(address, tmp_path).read_bytes() == b"other"
    assert fingerprint(address) != before


def test_a_file_replaced_during_the_download_is_never_mixed(server: WebServer, site: Site, tmp_path: Path) -> None:
    other = random.Random(4).randbytes(len(CONTENT))
    site.cut_after, site.cuts = 1 << 20, 1

    def replace(_: int) -> None:
        site.files["/data/tickets.csv"] = other

    web.download(web.inspect(f"{server.url}/data/tickets.csv"), tmp_path / "out", advance=replace)
    assert (tmp_path / "out").read_bytes() == other


def test_an_empty_web_file_is_an_empty_file(server: WebServer, site: Site, tmp_path: Path) -> None:
    site.files["/empty.csv"] = b""
    assert localize(f"{server.url}/empty.csv", tmp_path).read_bytes() == b""


@pytest.mark.parametrize(
    ("status", "kind", "sentence"),
    [
        (404, NotFound, "no such file"),
        (403, ConfigError, "access is denied"),
        (418, StorageError, "answers HTTP 418"),
        (503, StorageError, "answers HTTP 503"),
    ],
)
def test_each_refusal_of_a_web_server_has_its_sentence(
    server: WebServer, site: Site, tmp_path: Path, status: int, kind: type[Exception], sentence: str
) -> None:
    site.statuses["/data/tickets.csv"] = [status] * 3
    with pytest.raises(kind, match=sentence):
        localize(f"{server.url}/data/tickets.csv", tmp_path)


def test_a_busy_web_server_is_asked_again(server: WebServer, site: Site, tmp_path: Path) -> None:
    site.statuses["/data/tickets.csv"] = [503, 429]
    assert localize(f"{server.url}/data/tickets.csv", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "address", ["http://example.com/x.csv", "http://10.0.0.1/x.csv", "https:///x", "ftp://h/x", "x://y"]
)
def test_an_unsafe_or_unknown_address_is_refused(address: str, tmp_path: Path) -> None:
    for ask in (lambda: localize(address, tmp_path), lambda: fingerprint(address)):
        with pytest.raises(ConfigError, match=r"use|correct"):
            ask()


def test_redirects_are_followed_where_that_is_safe(server: WebServer, site: Site, tmp_path: Path) -> None:
    site.redirects = {
        "/moved": "/data/tickets.csv",
        "/plain": "http://example.com/x",
        "/file": "file:///etc/passwd",
        "/loop": "/loop",
    }
    assert localize(f"{server.url}/moved", tmp_path).read_bytes() == CONTENT
    with pytest.raises(ConfigError, match=r"redirects to http://example\.com/x, which is not safe"):
        localize(f"{server.url}/plain", tmp_path)
    with pytest.raises((ConfigError, StorageError), match="redirects to"):
        localize(f"{server.url}/file", tmp_path)
    with pytest.raises(StorageError, match="redirects more than 5 times"):
        localize(f"{server.url}/loop", tmp_path)


def test_a_password_goes_to_its_own_host_only(server: WebServer, site: Site, tmp_path: Path) -> None:
    other = Site(files={"/x.csv": b"text"})
    with WebServer(other) as elsewhere:
        site.password = "Basic dXNlcjpzM2NyZXQ="
        site.redirects["/x.csv"] = f"{elsewhere.url}/x.csv"
        assert localize(server.url.replace("//", "//user:s3cret@") + "/x.csv", tmp_path).read_bytes() == b"text"
    assert other.asked and not any("authorization" in headers for _, _, headers in other.asked)


def test_no_credential_of_an_address_is_printed(
    server: WebServer,
    site: Site,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FAIRLEAD_EVENTS", str(tmp_path / "events"))
    site.redirects["/go.csv"] = "/data/tickets.csv?X-Amz-Signature=hidden2"
    base = server.url.replace("//", "//user:hidden1@")
    localize(f"{base}/go.csv?token=hidden3", tmp_path / "into")
    messages = []
    for address in (
        f"{base}/absent?hidden3",
        "http://u:hidden1@example.com/x?hidden3",
        "https://u:hidden1@h:x/?hidden3",
    ):
        with pytest.raises((NotFound, ConfigError)) as caught:
            localize(address, tmp_path / "into")
        messages.append(str(caught.value))
    printed = caplog.text + "".join(capfd.readouterr()) + "".join(messages) + (tmp_path / "events").read_text()
    assert "tickets.csv" in printed
    assert "hidden" not in printed and "dXNlcjp" not in printed
    assert not [p for p in tmp_path.rglob("*") if "hidden" in p.name]


def test_an_unreachable_web_server_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with WebServer(Site()) as gone:
        pass
    with pytest.raises(StorageError, match="cannot be reached"):
        localize(f"{gone.url}/x.csv", tmp_path)


def test_an_object_and_a_prefix_come_from_s3(s3_url: str, tmp_path: Path) -> None:
    store = open_store(s3_url)
    store.put_bytes("raw/tickets.csv", b"text,label")
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "1_Pooling/config.json"):
        store.put_bytes(f"bases/encoder/{name}", name.encode())
    path = localize(f"{s3_url}/raw/tickets.csv", tmp_path)
    assert path.name == "tickets.csv" and path.read_bytes() == b"text,label"
    before = fingerprint(f"{s3_url}/bases/encoder/")
    folder = localize(f"{s3_url}/bases/encoder/", tmp_path)
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names == {"config.json", "model.safetensors", "1_Pooling/config.json"}
    assert localize(f"{s3_url}/bases/encoder", tmp_path).is_dir()
    store.put_bytes("bases/encoder/config.json", b"changed")
    assert fingerprint(f"{s3_url}/bases/encoder/") != before
    assert (localize(f"{s3_url}/bases/encoder/", tmp_path) / "config.json").read_bytes() == b"changed"
    for absent in (f"{s3_url}/nothing", f"{s3_url}/nothing/"):
        with pytest.raises(NotFound, match="no such object, and none below it"):
            localize(absent, tmp_path)
    with pytest.raises(ConfigError, match=r"s3://\*\*\*@bucket"):
        localize("s3://key:secret@bucket/x", tmp_path)


MODEL = {
    "config.json": b"{}",
    "model.safetensors": b"w" * 5000,
    "pytorch_model.bin": b"pickle",
    "tokenizer.json": b"{}",
    "vocab.txt": b"a",
    "modeling_custom.py": b"import os",
    "1_Pooling/config.json": b"{}",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    "model.fp16.safetensors": b"half",
}


def test_a_model_comes_from_the_hub_without_pickles_or_code(server: WebServer, site: Site, tmp_path: Path) -> None:
    site.repos["models/org/encoder"] = dict(MODEL)
    folder = localize("hf://org/encoder", tmp_path)
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "1_Pooling/config.json"}
    assert (folder / "model.safetensors").read_bytes() == b"w" * 5000
    asked = len(site.body_requests())
    assert localize("hf://org/encoder@main", tmp_path).is_dir()
    assert all("/resolve/" + "a" * 40 in path for _, path, _ in site.asked if "/resolve/" in path)
    before = fingerprint("hf://org/encoder")
    site.repos["models/org/encoder"]["README.md"] = b"new words"
    assert fingerprint("hf://org/encoder") == before
    site.repos["models/org/encoder"]["model.safetensors"] = b"v" * 5000
    assert fingerprint("hf://org/encoder") != before
    assert asked


def test_a_large_file_from_the_hub_is_resumed_and_checked(server: WebServer, site: Site, tmp_path: Path) -> None:
    site.repos["models/org/encoder"] = {"config.json": b"{}", "model.safetensors": CONTENT}
    site.cut_after, site.cuts = 3 << 20, 1
    folder = localize("hf://org/encoder", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert f"bytes={3 << 20}-" in site.body_requests()
    # A mirror that gives other bytes than the Hub's listing names.
    site.redirects[f"/org/encoder/resolve/{'a' * 40}/model.safetensors"] = "/evil"
    site.files["/evil"] = bytes(len(CONTENT))
    with pytest.raises(IntegrityError, match="sha256"):
        localize("hf://org/encoder", tmp_path / "again")


def test_a_model_of_pickles_only_is_refused(server: WebServer, site: Site, tmp_path: Path) -> None:
    site.repos["models/org/old"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    with pytest.raises(DataError, match="no weights as safetensors"):
        localize("hf://org/old", tmp_path)


def test_data_comes_from_the_hub_by_file_and_by_folder(server: WebServer, site: Site, tmp_path: Path) -> None:
    site.repos["datasets/org/topics"] = {"data/train.csv": b"a,b", "data/more/test.csv": b"c,d", "README.md": b""}
    for address in (
        "hf://datasets/org/topics/data/train.csv",
        "hf://datasets/org/topics/data/train.csv@main",
        "hf://datasets/org/topics@main/data/train.csv",
    ):
        path = localize(address, tmp_path)
        assert path.name == "train.csv" and path.read_bytes() == b"a,b"
    folder = localize("hf://datasets/org/topics/data", tmp_path)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "train.csv",
        "more/test.csv",
    }


@pytest.mark.parametrize(
    ("address", "kind", "sentence"),
    [
        ("hf://org", ConfigError, "names no model"),
        ("hf://org/model/file", ConfigError, "names no model"),
        ("hf://datasets/org/topics", ConfigError, "names no model and no file"),
        ("hf://org/ab--..cd", ConfigError, "no name of a repository"),
        ("hf://org/absent", NotFound, "no such repository, or it is private"),
        ("hf://org/encoder@nowhere", NotFound, "no such revision"),
        ("hf://datasets/org/topics/absent.csv", NotFound, "no such file or folder"),
    ],
)
def test_each_fault_of_a_hub_address_has_its_sentence(
    server: WebServer, site: Site, tmp_path: Path, address: str, kind: type[Exception], sentence: str
) -> None:
    site.repos = {"models/org/encoder": dict(MODEL), "datasets/org/topics": {"train.csv": b""}}
    with pytest.raises(kind, match=sentence):
        localize(address, tmp_path)


def test_a_token_goes_to_the_hub_only(
    server: WebServer, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    other = Site(files={"/blob": b"w" * 2000})
    with WebServer(other) as storage:
        site.password = "Bearer hf_verysecret"
        site.repos["models/org/gated"] = {"model.safetensors": b"w" * 2000}
        site.redirects[f"/org/gated/resolve/{'a' * 40}/model.safetensors"] = f"{storage.url}/blob?Signature=verysecret"
        localize("hf://org/gated", tmp_path)
        monkeypatch.setenv("HF_TOKEN", "hf_verysecret_but_wrong")
        with pytest.raises(ConfigError, match="refuses the token; set HF_TOKEN"):
            localize("hf://org/gated", tmp_path)
    assert other.asked and not any("authorization" in headers for _, _, headers in other.asked)
    assert "verysecret" not in caplog.text
