"""Where an S3 store is and how it is entered, from its address and the standard AWS variables."""

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fairlead.errors import ConfigError
from fairlead.storage.contract import check_key
from fairlead.storage.redaction import redact

BUCKET_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
AWS_ENDPOINT = "https://s3.amazonaws.com"
# What MinIO and its like answer to when no region is set.
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True)
class S3Address:
    """The bucket and the key prefix ("" or ending in `/`) of a store."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> "S3Address":
        """Read `s3://bucket/prefix`. Raises ConfigError for anything else, and for credentials in it."""
        shown, (bucket, _, prefix) = redact(url), url.removeprefix("s3://").partition("/")
        if "@" in bucket or "?" in url or "#" in url:
            raise ConfigError(
                f"{shown}: the address carries more than bucket and key; "
                "set credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if not url.startswith("s3://") or not BUCKET_PATTERN.fullmatch(bucket):
            raise ConfigError(f"{shown}: {bucket!r} is not a bucket's name; write s3://bucket/prefix")
        prefix = prefix.strip("/")
        return cls(bucket, check_key(prefix) + "/" if prefix else "")

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True)
class S3Settings:
    """Endpoint, region and credentials; the latter never show in its repr."""

    endpoint: str
    """`host` or `host:port`."""
    secure: bool
    """Whether it speaks TLS."""
    region: str | None
    """None: the endpoint is asked for the bucket's region."""
    access_key: str | None = field(default=None, repr=False)
    """None with `secret_key`: requests are anonymous."""
    secret_key: str | None = field(default=None, repr=False)
    """Secret of `access_key`."""
    session_token: str | None = field(default=None, repr=False)
    """Token of temporary credentials."""

    @classmethod
    def from_environment(cls) -> "S3Settings":
        """Read AWS_ENDPOINT_URL(_S3), AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN.

        Raises ConfigError for an endpoint that is no URL and for half a pair of keys.
        """
        url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        endpoint, secure = _endpoint(url or AWS_ENDPOINT)
        access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        if bool(access_key) != bool(secret_key):
            absent = "AWS_SECRET_ACCESS_KEY" if access_key else "AWS_ACCESS_KEY_ID"
            raise ConfigError(f"S3: {absent} is not set, though its other half is; set both or neither")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return cls(
            endpoint=endpoint,
            secure=secure,
            region=region or (DEFAULT_REGION if url else None),
            access_key=access_key or None,
            secret_key=secret_key or None,
            session_token=os.environ.get("AWS_SESSION_TOKEN") or None,
        )

    @property
    def endpoint_url(self) -> str:
        """The endpoint for people."""
        return f"{'https' if self.secure else 'http'}://{self.endpoint}"


def _endpoint(url: str) -> tuple[str, bool]:
    shown = redact(url)
    try:
        parts = urlsplit(url)
        legal = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        legal = False
    if not legal:
        raise ConfigError(f"AWS_ENDPOINT_URL: {shown!r} is not an address; write http://host:9000 or https://host")
    if "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"AWS_ENDPOINT_URL: {shown!r} carries more than host and port; leave the rest out")
    return parts.netloc, parts.scheme == "https"
