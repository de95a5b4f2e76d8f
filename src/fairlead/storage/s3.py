"""The object store in S3, through the minio client. The only file that imports minio."""

from fairlead.errors import StorageError
from fairlead.storage.contract import ObjectStore


class S3Store:
    """Objects in a bucket."""

    @classmethod
    def from_environment(cls, url: str) -> ObjectStore:
        """Not yet."""
        raise StorageError(f"{url.partition('?')[0]}: S3 is not supported yet; use a folder")
