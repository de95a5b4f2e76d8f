"""The object store in S3, through the minio client. The only file that imports minio."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from xml.etree.ElementTree import ParseError

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from fairlead.errors import FairleadError, NotFound, StorageError
from fairlead.storage import disk
from fairlead.storage.contract import Advance, Content, ObjectStat, check_key, check_prefix, ignore
from fairlead.storage.resume import Changed, Interrupted, Remote, fetch
from fairlead.storage.s3_errors import network_reason, sentence_of
from fairlead.storage.s3_settings import S3Address, S3Settings

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

R = TypeVar("R")

CHUNK_BYTES = 1 << 20
# S3 takes parts of 5 MiB to 5 GiB, 10,000 at most: 16 MiB reach 156 GiB. Four are in memory at a time.
PART_BYTES = 16 << 20
# The first request has two tries of at most 4 s and a pause between: a dead endpoint is told in 10 s.
FIRST_CONNECT_SECONDS = 2.5
FIRST_ANSWER_SECONDS = 4.0
# Python counts the sending of a whole part against the time to connect: 16 MiB in 300 s is 56 kB/s.
CONNECT_SECONDS = 300.0
# So it is the kernel that finds a peer that takes nothing any more.
STALLED_SECONDS = 30
# Completing an upload of many parts may take a server this long.
ANSWER_SECONDS = 60.0
# A write, or a short read, is asked for again as a whole when the connection broke: asking twice changes nothing.
MAX_TRIES = 3
# Times that an object may be replaced under its reader.
MAX_CHANGES = 5


class S3Store:
    """Objects under a prefix of a bucket."""

    def __init__(self, address: S3Address, settings: S3Settings) -> None:
        """Nothing is asked of the network before the first call."""
        self._address, self._settings = address, settings
        self._client = _client(settings, CONNECT_SECONDS, ANSWER_SECONDS, retries=2)
        self._reached = False

    @classmethod
    def from_environment(cls, url: str) -> "S3Store":
        """The store at `s3://bucket/prefix`, entered by the standard AWS variables."""
        return cls(S3Address.parse(url), S3Settings.from_environment())

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return self._address.url

    def __repr__(self) -> str:
        return f"S3Store({self.url!r}, endpoint={self._settings.endpoint_url!r})"

    def put_bytes(self, key: str, content: Content) -> None:
        """Write an object in one step; `content` is not copied and must not change meanwhile."""
        self._put(key, lambda: BufferedReader(_View(content)), len(content), ignore)

    def put_file(self, key: str, path: Path, advance: Advance = ignore) -> None:
        """Write an object from a file in one step; more than 16 MiB go in parts."""
        with disk.translated(str(path)):
            if not path.is_file():
                raise NotFound(f"{path}: there is no such file; check the path")
            self._put(key, lambda: path.open("rb"), path.stat().st_size, advance)

    def get_bytes(self, key: str) -> bytes:
        """The content of an object."""
        # One request reads one version, even while others write; it is short, so a cut one starts anew.
        self._reach()
        return _again(lambda: self._get_whole(key))

    def get_file(self, key: str, path: Path, sha256: str | None = None, advance: Advance = ignore) -> None:
        """Download an object to `path` in one step, going on where a cut connection or a killed process left it."""
        self._read_unchanged(key, lambda remote: fetch(remote, path, sha256, advance))

    def stat(self, key: str) -> ObjectStat:
        """Size, etag and time of an object."""
        with self._asking(key):
            found = self._client.stat_object(self._address.bucket, self._name(key))
        return ObjectStat(key, found.size, found.etag, found.last_modified)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object whose key begins with `prefix`, in key order, 1,000 a request."""
        whole = self._address.prefix + check_prefix(prefix)
        with self._asking(prefix):
            for found in self._client.list_objects(self._address.bucket, prefix=whole, recursive=True):
                key = found.object_name.removeprefix(self._address.prefix)
                # Consoles make empty objects named `folder/` to show a folder.
                if not key.endswith("/") and key:
                    yield ObjectStat(key, found.size, found.etag.strip('"'), found.last_modified)

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""
        with self._asking(key):
            self._client.remove_object(self._address.bucket, self._name(key))

    def _name(self, key: str) -> str:
        return self._address.prefix + check_key(key)

    def _where(self, key: str) -> str:
        return f"{self.url}/{key}"

    def _put(self, key: str, source: Callable[[], BinaryIO], size: int, advance: Advance) -> None:
        name, told = self._name(key), _HighWater(advance)

        def write() -> None:
            with self._asking(key), source() as data:
                self._client.put_object(self._address.bucket, name, _Counted(data, told), size, part_size=PART_BYTES)

        self._reach()
        _again(write)

    def _get_whole(self, key: str) -> bytes:
        with self._asking(key):
            response = self._client.get_object(self._address.bucket, self._name(key))
            try:
                return b"".join(response.stream(CHUNK_BYTES, decode_content=False))
            finally:
                response.close()
                response.release_conn()

    def _read_unchanged(self, key: str, use: Callable[[Remote], None]) -> None:
        for _ in range(MAX_CHANGES):
            stat = self.stat(key)
            try:
                return use(Remote(self._where(key), stat.etag, stat.size, partial(self._read, stat)))
            except Changed:
                continue
        raise StorageError(f"{self._where(key)}: it changes while it is read; wait for its writer, then run again")

    def _read(self, stat: ObjectStat, offset: int) -> Iterator[bytes]:
        """The content of one version of an object from `offset` on."""
        response = None
        try:
            with self._asking(stat.key, network=False):
                response = self._client.get_object(
                    self._address.bucket,
                    self._name(stat.key),
                    offset=offset,
                    request_headers={"If-Match": f'"{stat.etag}"'},
                )
            # Not every server keeps If-Match.
            if response.headers.get("ETag", "").strip('"') != stat.etag:
                raise Changed
            if offset and response.status != 206:
                raise StorageError(
                    f"{self._where(stat.key)}: the endpoint ignores ranges; use one that keeps S3's rules"
                )
            yield from response.stream(CHUNK_BYTES, decode_content=False)
        except HTTPError as error:
            raise Interrupted(network_reason(error)) from error
        finally:
            if response is not None:
                response.close()
                response.release_conn()

    @contextmanager
    def _asking(self, key: str, network: bool = True) -> Iterator[None]:
        """Translate what the client raises; HTTPError passes when `network` is off."""
        where = self._where(key)
        self._reach()
        try:
            yield
        except S3Error as error:
            # A shorter object under the same key: some servers look at the range first.
            if error.code in ("PreconditionFailed", "InvalidRange"):
                raise Changed from error
            raise sentence_of(error, where, self._address, self._settings) from error
        except (InvalidResponseError, ServerError, ParseError) as error:
            raise self._no_s3(where) from error
        except HTTPError as error:
            if not network:
                raise
            raise StorageError(
                f"{where}: {self._settings.endpoint_url} broke off: {network_reason(error)}; run again"
            ) from error

    def _reach(self) -> None:
        """Before the first call: find out in 10 s that the endpoint is away, or refuses us.

        HEAD requests carry no reason when they fail; a listing does.
        """
        if self._reached:
            return
        client = _client(self._settings, FIRST_CONNECT_SECONDS, FIRST_ANSWER_SECONDS, retries=1)
        try:
            next(iter(client.list_objects(self._address.bucket, prefix=self._address.prefix)), None)
        except S3Error as error:
            # Whoever may not list may still read and write.
            if error.code != "AccessDenied":
                raise sentence_of(error, self.url, self._address, self._settings) from error
        except (InvalidResponseError, ServerError, ParseError) as error:
            raise self._no_s3(self.url) from error
        except HTTPError as error:
            raise StorageError(
                f"{self.url}: {self._settings.endpoint_url} cannot be reached ({network_reason(error)}); "
                "start it or correct AWS_ENDPOINT_URL"
            ) from error
        self._reached = True

    def _no_s3(self, where: str) -> FairleadError:
        return StorageError(
            f"{where}: {self._settings.endpoint_url} does not answer as S3 does; correct AWS_ENDPOINT_URL or see to it"
        )


def _again(ask: Callable[[], R]) -> R:
    for tries_left in reversed(range(MAX_TRIES)):
        try:
            return ask()
        except StorageError as error:
            if not tries_left or not isinstance(error.__cause__, HTTPError):
                raise
    raise AssertionError("the last try returns or raises")


class _HighWater:
    """Tells each byte once, however often it is sent."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._told = advance, 0

    def reach(self, position: int) -> None:
        if position > self._told:
            self._advance(position - self._told)
            self._told = position


class _View(RawIOBase):
    """Bytes in memory as a file, without the copy that BytesIO makes."""

    def __init__(self, content: Content) -> None:
        self._content, self._position = memoryview(content), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        room = memoryview(buffer)
        piece = self._content[self._position : self._position + len(room)]
        room[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._position


class _Counted:
    """A file that tells how far it was read."""

    def __init__(self, file: BinaryIO, told: _HighWater) -> None:
        self._file, self._told = file, told

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._told.reach(self._file.tell())
        return content


def _client(settings: S3Settings, connect_seconds: float, answer_seconds: float, retries: int) -> Minio:
    options = list(HTTPConnection.default_socket_options)
    if sys.platform == "linux":
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000))
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=connect_seconds, read=answer_seconds),
        retries=urllib3.Retry(total=retries, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
        maxsize=10,
        socket_options=options,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )
    return Minio(
        settings.endpoint,
        access_key=settings.access_key,
        secret_key=settings.secret_key,
        session_token=settings.session_token,
        secure=settings.secure,
        region=settings.region,
        http_client=pool,
    )
