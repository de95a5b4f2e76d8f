"""Files at `https://` addresses, read from any offset. Plain `http://` is taken from this machine only."""

import functools
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

import fairlead
from fairlead.errors import ConfigError, NotFound, StorageError
from fairlead.storage.contract import Advance, ignore
from fairlead.storage.redaction import RedactingFilter, redact, redact_text
from fairlead.storage.resume import Changed, Interrupted, Remote, fetch

CHUNK_BYTES = 1 << 20
MAX_REDIRECTS = 5
MAX_CHANGES = 3
PAUSES_SECONDS = (0.2, 0.8)
TIMEOUT = httpx.Timeout(30.0, connect=3.0)
# Worth another try: the server is busy, not unwilling.
BUSY = {408, 425, 429, 500, 502, 503, 504}

# These loggers write whole addresses, presigned ones too.
for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy"):
    logging.getLogger(_name).addFilter(RedactingFilter())


@dataclass(frozen=True)
class WebFile:
    """One version of what an address gives."""

    url: str
    """The address, credentials included."""
    etag: str
    """Strong ETag, or Last-Modified; "" when the server names its versions by neither."""
    size: int | None
    """Bytes; None when the server does not say."""


def inspect(url: str, headers: Mapping[str, str] | None = None) -> WebFile:
    """Ask what stands at `url`, without reading it.

    Raises ConfigError for an address that is refused, NotFound, or StorageError when nobody answers.
    """
    where = redact(url)
    for pause in (*PAUSES_SECONDS, None):
        try:
            return _inspect(url, headers or {}, where)
        except (Interrupted, httpx.TransportError) as error:
            if pause is None:
                reason = _reason(error) if isinstance(error, httpx.TransportError) else str(error)
                raise StorageError(f"{where}: {reason}; correct the address or run again later") from error
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _inspect(url: str, headers: Mapping[str, str], where: str) -> WebFile:
    # Not HEAD: a presigned address is good for GET alone.
    with _get(url, {**headers, "Range": "bytes=0-0"}) as response:
        if response.status_code == 416:
            return WebFile(url, "", 0)
        _check_status(response, where)
        return WebFile(url, _validator(response), _whole_size(response))


def download(
    file: WebFile,
    path: Path,
    sha256: str | None = None,
    headers: Mapping[str, str] | None = None,
    advance: Advance = ignore,
) -> None:
    """Write what stands at an address to `path` in one step, going on where an earlier try broke."""
    for _ in range(MAX_CHANGES):
        read = partial(_read, file, headers or {})
        try:
            return fetch(Remote(redact(file.url), file.etag, file.size, read), path, sha256, advance)
        except Changed:
            file = inspect(file.url, headers)
    raise StorageError(f"{redact(file.url)}: it changes while it is read; run again when it rests")


def check_address(url: str) -> str:
    """Return `url`, or raise ConfigError unless it is https, or http on this machine."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{redact(url)}: it is not an address; correct it") from error
    if not parsed.host or not (parsed.scheme == "https" or (parsed.scheme == "http" and _is_loopback(parsed.host))):
        raise ConfigError(f"{redact(url)}: what comes by plain http can be changed on its way; use https://")
    return url


def _read(file: WebFile, headers: Mapping[str, str], offset: int) -> Iterator[bytes]:
    where = redact(file.url)
    asked = {"Range": f"bytes={offset}-", "If-Range": file.etag} if offset else {}
    try:
        with _get(file.url, {**headers, **asked}) as response:
            if response.status_code == 416:
                raise Changed
            _check_status(response, where)
            if _validator(response) != file.etag:
                raise Changed
            yield from _from_offset(response, offset)
    except httpx.TransportError as error:
        raise Interrupted(_reason(error)) from error


def _from_offset(response: httpx.Response, offset: int) -> Iterator[bytes]:
    to_skip = offset if response.status_code == 200 else 0
    if not to_skip and offset and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        raise Changed
    for chunk in response.iter_raw(CHUNK_BYTES):
        kept = chunk[to_skip:]
        to_skip = max(0, to_skip - len(chunk))
        if kept:
            yield kept


@contextmanager
def _get(url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
    check_address(url)
    sent = {"User-Agent": f"fairlead/{fairlead.__version__}", "Accept-Encoding": "identity", **headers}
    client = httpx.Client(
        verify=_ssl_context(),
        timeout=TIMEOUT,
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        event_hooks={"request": [_hop_guard(httpx.URL(url).host, redact(url))]},
    )
    try:
        with client, client.stream("GET", url, headers=sent) as response:
            yield response
    except httpx.TooManyRedirects as error:
        raise StorageError(
            f"{redact(url)}: it redirects more than {MAX_REDIRECTS} times; correct the address"
        ) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.RemoteProtocolError) as error:
        if isinstance(error, httpx.RemoteProtocolError) and "Location" not in str(error):
            raise
        raise StorageError(f"{redact(url)}: it redirects to what is no address; correct the address") from error


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    # 0.1 s to build: once a process, not once a request.
    return httpx.create_ssl_context()


def _hop_guard(first_host: str, where: str) -> Callable[[httpx.Request], None]:
    """Refuses redirects to plain http, and from outside into this machine. httpx drops credentials between hosts."""

    def check(request: httpx.Request) -> None:
        inward = _is_loopback(request.url.host) and not _is_loopback(first_host)
        plain = request.url.scheme != "https" and not _is_loopback(request.url.host)
        if inward or plain:
            shown = redact(str(request.url))
            raise ConfigError(f"{where}: it redirects to {shown}, which is not safe to follow; correct the address")

    return check


def _check_status(response: httpx.Response, where: str) -> None:
    status = response.status_code
    if status in BUSY:
        raise Interrupted(f"the server answers HTTP {status}")
    if status in (404, 410):
        raise NotFound(f"{where}: there is no such file (HTTP {status}); check the address")
    if status in (401, 403):
        raise ConfigError(
            f"{where}: access is denied (HTTP {status}); the address or token has expired, or is not allowed to read"
        )
    if status not in (200, 206):
        raise StorageError(f"{where}: the server answers HTTP {status}; run again later or correct the address")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise StorageError(f"{where}: it comes only as {encoding}; download it by hand and give the path")


def _validator(response: httpx.Response) -> str:
    etag: str = response.headers.get("ETag", "")
    # A weak ETag names what means the same, not what is the same byte by byte.
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _whole_size(response: httpx.Response) -> int | None:
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection within the time limit"
    if isinstance(error, httpx.TimeoutException):
        return "no answer within the time limit"
    text = redact_text(str(error)).rstrip(".")
    return f"it cannot be reached ({text})" if isinstance(error, httpx.ConnectError) else f"it was cut ({text})"
