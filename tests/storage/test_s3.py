"""What only S3 can do wrong: cut connections, refusals, absent servers; and what may never be printed."""

import contextlib
import io
import json
import logging
import os
import random
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fairlead.errors import ConfigError, FairleadError, NotFound, StorageError
from fairlead.formats.digests import of_bytes
from fairlead.storage import open_store, s3
from fairlead.storage.resume import part_path
from tests.cutting_proxy import CuttingProxy

MIB = 1 << 20
CONTENT = random.Random(1).randbytes(9 * MIB)


def test_a_cut_download_goes_on_where_it_broke(
    s3_url: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3_url).put_bytes("a", CONTENT)
    told: list[int] = []
    with CuttingProxy(s3_endpoint, after=3 * MIB, cuts=2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        open_store(s3_url).get_file("a", tmp_path / "out", of_bytes(CONTENT), told.append)
    assert proxy.num_cut == 2
    assert (tmp_path / "out").read_bytes() == CONTENT
    starts = [int(r.removeprefix("bytes=").removesuffix("-")) for r in proxy.ranges if r]
    assert len(starts) == 2 and 0 < starts[0] < starts[1] < len(CONTENT)
    assert sum(told) == len(CONTENT)


def test_a_source_that_gives_nothing_more_ends_in_a_sentence_and_the_next_run_goes_on(
    s3_url: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3_url).put_bytes("a", CONTENT)
    with CuttingProxy(s3_endpoint, after=4 * MIB, cuts=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = open_store(s3_url)
        proxy.refuse_after_cut = True
        with pytest.raises(StorageError, match=r"connection broke.*run again to go on"):
            store.get_file("a", tmp_path / "out")
    (part,) = tmp_path.glob(".out.*.part")
    had = part.stat().st_size
    assert 0 < had <= 4 * MIB and not (tmp_path / "out").exists()
    with CuttingProxy(s3_endpoint, after=0, cuts=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        open_store(s3_url).get_file("a", tmp_path / "out", of_bytes(CONTENT))
    assert f"bytes={had}-" in proxy.ranges
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_a_part_of_an_older_object_is_not_gone_on_from(s3_url: str, tmp_path: Path) -> None:
    from fairlead.storage.resume import Remote

    store = open_store(s3_url)
    store.put_bytes("a", b"old content")
    old = part_path(Remote(f"{s3_url}/a", store.stat("a").etag, None, lambda _: iter(())), tmp_path / "out")
    old.write_bytes(b"old con")
    store.put_bytes("a", b"new content")
    store.get_file("a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"new content"
    assert not old.exists()


def test_a_damaged_part_is_found_by_the_digest_and_read_anew(s3_url: str, tmp_path: Path) -> None:
    from fairlead.storage.resume import Remote

    store = open_store(s3_url)
    store.put_bytes("a", b"right content")
    remote = Remote(f"{s3_url}/a", store.stat("a").etag, None, lambda _: iter(()))
    part_path(remote, tmp_path / "out").write_bytes(b"\0\0\0\0\0")
    store.get_file("a", tmp_path / "out", of_bytes(b"right content"))
    assert (tmp_path / "out").read_bytes() == b"right content"


def test_a_killed_download_goes_on(
    s3_url: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3_url).put_bytes("a", CONTENT)
    script = (
        "import os, signal, sys; from pathlib import Path; from fairlead.storage import open_store\n"
        "def advance(_, done=[0]):\n"
        "    done[0] += 1\n"
        "    if done[0] == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "open_store(sys.argv[1]).get_file('a', Path(sys.argv[2]), None, advance)"
    )
    killed = subprocess.run([sys.executable, "-c", script, s3_url, str(tmp_path / "out")], check=False)
    assert killed.returncode == -9
    (part,) = tmp_path.glob(".out.*.part")
    assert 0 < part.stat().st_size < len(CONTENT) and not (tmp_path / "out").exists()
    had = part.stat().st_size
    with CuttingProxy(s3_endpoint, after=0, cuts=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        open_store(s3_url).get_file("a", tmp_path / "out", of_bytes(CONTENT))
    assert f"bytes={had}-" in proxy.ranges
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert not part.exists()


@pytest.mark.parametrize("size", [3 * MIB, 40 * MIB], ids=["one request", "in parts"])
def test_a_cut_upload_is_sent_again_and_nothing_half_is_seen(
    s3_url: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    content = random.Random(2).randbytes(size)
    (tmp_path / "in").write_bytes(content)
    told: list[int] = []
    with CuttingProxy(s3_endpoint, after=2 * MIB, cuts=2, cut_requests=True) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        open_store(s3_url).put_file("a", tmp_path / "in", told.append)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    assert proxy.num_cut == 2
    assert open_store(s3_url).get_bytes("a") == content
    assert sum(told) == size


def test_a_slow_upload_is_not_taken_for_a_dead_one(
    s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.storage.s3.FIRST_CONNECT_SECONDS", 0.5)
    with CuttingProxy(s3_endpoint, after=MIB, cuts=0) as proxy:
        proxy.stall_seconds = 1.5
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = open_store(s3_url)
        store.put_bytes("a", bytes(16 * MIB))
        assert proxy.stall_seconds == 0 and proxy.num_puts == 1
        assert store.stat("a").size == 16 * MIB


def test_an_upload_that_fails_for_good_leaves_the_old_object(
    s3_url: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3_url).put_bytes("a", b"old")
    (tmp_path / "in").write_bytes(CONTENT)
    with CuttingProxy(s3_endpoint, after=2 * MIB, cuts=1000, cut_requests=True) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(StorageError, match="broke off"):
            open_store(s3_url).put_file("a", tmp_path / "in")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    assert open_store(s3_url).get_bytes("a") == b"old"


def test_an_object_replaced_while_it_is_read_is_read_anew(s3_url: str, tmp_path: Path) -> None:
    store = open_store(s3_url)
    store.put_bytes("a", CONTENT)
    replaced = []

    def advance(_: int) -> None:
        # After stat, before the first byte: the version that was promised is gone.
        if not replaced:
            replaced.append(True)
            store.put_bytes("a", b"new")

    store.get_file("a", tmp_path / "out", advance=advance)
    assert (tmp_path / "out").read_bytes() == b"new"


def test_an_unreachable_endpoint_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(StorageError) as caught:
        open_store("s3://bucket/x").put_bytes("a", b"")
    assert str(caught.value) == (
        f"s3://bucket/x: http://127.0.0.1:{port} cannot be reached (connection refused); "
        "start it or correct AWS_ENDPOINT_URL"
    )


@pytest.mark.parametrize("ask", ["get_bytes", "put_bytes", "get_file", "put_file", "stat", "list", "delete"])
def test_an_endpoint_that_never_answers_is_given_up_within_ten_seconds(
    ask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = max(s3.FIRST_CONNECT_SECONDS, s3.FIRST_ANSWER_SECONDS)
    monkeypatch.setattr(s3, "FIRST_ANSWER_SECONDS", 0.1)
    (tmp_path / "in").touch()
    more = {"put_bytes": [b""], "get_file": [tmp_path / "out"], "put_file": [tmp_path / "in"]}.get(ask, [])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StorageError, match="no answer within the time limit"):
            list(getattr(open_store("s3://bucket"), ask)("a", *more))
        silent.setblocking(False)
        num_tries = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                num_tries += 1
    assert num_tries * longest + 1 < 10


def test_a_name_that_does_not_resolve_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid:9000")
    with pytest.raises(
        StorageError, match=r"no-such-host\.invalid:9000 cannot be reached \(its name does not resolve\)"
    ):
        open_store("s3://bucket").get_bytes("a")


def test_a_missing_bucket_is_told(s3_url: str) -> None:
    for ask in (
        lambda s: s.get_bytes("a"),
        lambda s: s.put_bytes("a", b""),
        lambda s: list(s.list("")),
        lambda s: s.stat("a"),
    ):
        with pytest.raises(NotFound, match="s3://no-such-bucket-here: there is no such bucket at http"):
            ask(open_store("s3://no-such-bucket-here/prefix"))


AUTHENTICATING = """
import json, os, sys
os.environ.update(INITIAL_NO_AUTH_ACTION_COUNT="4", AWS_REGION="us-east-1")
import boto3
from moto.server import ThreadedMotoServer
from fairlead.storage import open_store

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
endpoint = "http://%s:%d" % server.get_host_and_port()
root = dict(endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
iam = boto3.client("iam", **root)
iam.create_user(UserName="u")
key = iam.create_access_key(UserName="u")["AccessKey"]
allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=json.dumps(allow))
boto3.client("s3", **root).create_bucket(Bucket="bucket")
said = []
for name, secret in [(key["AccessKeyId"], key["SecretAccessKey"]), (key["AccessKeyId"], "wrong"), ("nobody", "wrong")]:
    os.environ.update(AWS_ENDPOINT_URL=endpoint, AWS_ACCESS_KEY_ID=name, AWS_SECRET_ACCESS_KEY=secret)
    store = open_store("s3://bucket/a b")
    try:
        store.put_bytes("c d+\u00fc", b"content")
        said.append(store.get_bytes("c d+\u00fc").decode())
    except Exception as error:
        said.append(f"{type(error).__name__} {error}")
print(json.dumps(said), flush=True)
server.stop()
"""


def test_a_server_that_checks_signatures_takes_ours_and_refuses_wrong_ones() -> None:
    done = subprocess.run([sys.executable, "-c", AUTHENTICATING], capture_output=True, text=True, check=True)
    right, wrong_secret, unknown = json.loads(done.stdout.splitlines()[-1])
    assert right == "content"
    assert wrong_secret.startswith("ConfigError s3://bucket/a b: http://127.0.0.1:")
    assert "refuses the credentials (SignatureDoesNotMatch)" in wrong_secret
    assert "refuses the credentials (InvalidAccessKeyId)" in unknown


class Refusing(BaseHTTPRequestHandler):
    """Answers every request as an S3 server does that refuses."""

    code = "InvalidAccessKeyId"
    body: bytes | None = None

    def do_GET(self) -> None:
        named = f"<Error><Code>{self.code}</Code><Message>No.</Message><Resource>/</Resource></Error>".encode()
        content = self.body or named
        self.send_response(200 if self.body else 403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Refusing]]:
    handler = type("Handler", (Refusing,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECRETACCESSKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "very-secret-token")
    yield handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        (
            "InvalidAccessKeyId",
            ConfigError,
            r"refuses the credentials \(InvalidAccessKeyId\); correct AWS_ACCESS_KEY_ID",
        ),
        ("SignatureDoesNotMatch", ConfigError, "refuses the credentials"),
        ("ExpiredToken", ConfigError, "refuses the credentials"),
        ("AccessDenied", ConfigError, "denies access to these credentials"),
        ("RequestTimeTooSkewed", ConfigError, "clock differs"),
        ("XMinioStorageFull", StorageError, "no space left"),
        ("Whatever", StorageError, r"refuses it: Whatever \(No\)"),
    ],
)
def test_each_refusal_has_its_sentence(
    refusing: type[Refusing], code: str, kind: type[FairleadError], sentence: str
) -> None:
    refusing.code = code
    with pytest.raises(kind, match=sentence):
        open_store("s3://bucket").put_bytes("a", b"")


def test_a_web_page_is_no_s3(refusing: type[Refusing]) -> None:
    refusing.body = b"<html><p>Welcome</html>"
    with pytest.raises(StorageError, match="does not answer as S3 does; correct AWS_ENDPOINT_URL"):
        list(open_store("s3://bucket").list(""))


def test_no_credential_is_ever_printed(refusing: type[Refusing], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = open_store("s3://bucket")
    printed = io.StringIO()
    for refusing.code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "Whatever"):
        try:
            store.put_bytes("a", b"")
        except FairleadError as error:
            traceback.print_exception(error, file=printed)
    seen = printed.getvalue() + caplog.text + repr(store) + str(store) + store.url + str(vars(store))
    assert "InvalidAccessKeyId" in seen
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert os.environ[name] not in seen


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@bucket/x",
        "s3://bucket/x?X-Amz-Signature=secret",
        "s3://bucket/x#secret",
        "https://u:secret@h/x?secret",
    ],
)
def test_credentials_in_an_address_are_refused_without_printing_them(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value).replace("AWS_SECRET_ACCESS_KEY", "")


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///x", "s3://Bucket", "s3://b", "s3://bucket/../x", "gs://bucket", "", " "]
)
def test_an_address_that_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url)


@pytest.mark.parametrize(
    "endpoint",
    ["host:9000", "ftp://host", "http://", "http://u:pw@host", "http://host/path", "http://host:port", "http://h?q"],
)
def test_an_endpoint_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL") as caught:
        open_store("s3://bucket")
    assert "pw" not in str(caught.value)


def test_half_a_pair_of_keys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY is not set"):
        open_store("s3://bucket")
