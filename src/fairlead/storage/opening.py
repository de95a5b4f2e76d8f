"""From an address to the store that it names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fairlead.errors import ConfigError
from fairlead.storage.contract import ObjectStore
from fairlead.storage.directory import DirectoryStore
from fairlead.storage.redaction import redact


def open_store(url: str) -> ObjectStore:
    """Open the store at `url`: `s3://bucket/prefix`, `file:///folder` or the path of a folder.

    S3 is set by the standard variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
    AWS_ENDPOINT_URL, AWS_REGION. Raises ConfigError for any other kind of address. Nothing is asked
    of the network before the first call.
    """
    scheme, separator, _ = url.partition("://")
    if not url.strip():
        raise ConfigError("store: the address is empty; set FAIRLEAD_STORE to s3://bucket/prefix or a folder")
    if not separator:
        return DirectoryStore(Path(url))
    if scheme == "file":
        return DirectoryStore(Path(unquote(urlsplit(url).path)))
    if scheme == "s3":
        # minio costs 0.2 s to import, which `fairlead --help` must not pay.
        from fairlead.storage.s3 import S3Store

        return S3Store.from_environment(url)
    raise ConfigError(f"store: {redact(url)!r} is not a store; use s3://bucket/prefix or a folder")
