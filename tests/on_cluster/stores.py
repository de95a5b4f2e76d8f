"""The store of a run: entered from here through a forwarded port, set up where the image of `mc` is not there."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from fairlead.cluster.api_server import ApiServer
from tests.on_cluster.forwarding import behind, forwarded

POLICIES = Path(__file__).parent.parent.parent / "manifests" / "base" / "store" / "policies"
# Of components/dev-secrets.
ROOT, PASSWORD = "root", "development-only"
USERS = ("pipelines", "serving", "backup")
BUCKETS = ("fairlead", "fairlead-backups")


@contextmanager
def entered(server: ApiServer, url: str, url_here: str) -> Iterator[str]:
    """URL by which this machine reaches the S3 that pods reach at `url`."""
    if url_here:
        yield url_here
        return
    address = urlsplit(url)
    name, *rest = str(address.hostname).split(".")
    if rest[1:2] != ["svc"]:
        yield url
        return
    pod, port = behind(server, name, address.port or 80, rest[0])
    with forwarded(server, pod, port, rest[0]) as here:
        yield f"{address.scheme}://{here}"


def set_up(url: str) -> None:
    """What the Job `minio-set-up` does: buckets, policies, users."""
    address, secure = _parts(url)
    client = connect(url, ROOT, PASSWORD)
    for bucket in BUCKETS:
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)
    admin = MinioAdmin(address, StaticProvider(ROOT, PASSWORD), secure=secure)
    for name in USERS:
        admin.policy_add(f"fairlead-{name}", policy_file=str(POLICIES / f"{name}.json"))
        admin.user_add(name, PASSWORD)
        admin.policy_set(f"fairlead-{name}", user=name)


def connect(url: str, access_key: str, secret_key: str) -> Minio:
    """A client that does not try for minutes."""
    address, secure = _parts(url)
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(10, read=30), retries=urllib3.Retry(2, backoff_factor=0.2))
    return Minio(address, access_key, secret_key, secure=secure, region="us-east-1", http_client=pool)


def put(client: Minio, bucket: str, key: str, content: bytes = b"x") -> None:
    """Write an object."""
    client.put_object(bucket, key, io.BytesIO(content), len(content))


def may(act: object, *arguments: object, **named: object) -> bool:
    """Whether an S3 lets a user do something; any other trouble is raised."""
    try:
        act(*arguments, **named)  # type: ignore[operator]
    except S3Error as error:
        if error.code == "AccessDenied":
            return False
        raise
    return True


@contextmanager
def borrowed(client: Minio, bucket: str, is_there: bool, project: str) -> Iterator[None]:
    """A bucket to work in; what is left in it of `project`, or the bucket where it is made here, is removed."""
    if not is_there:
        client.make_bucket(bucket)
    try:
        yield
    finally:
        prefix = f"models/{project}/" if is_there else None
        objects = [DeleteObject(o.object_name) for o in client.list_objects(bucket, prefix, recursive=True)]
        errors = list(client.remove_objects(bucket, objects))
        if not is_there and not errors:
            client.remove_bucket(bucket)
        assert not errors, f"{bucket}: {errors[0]}"


def _parts(url: str) -> tuple[str, bool]:
    address = urlsplit(url)
    return address.netloc, address.scheme == "https"
