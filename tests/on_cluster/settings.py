"""What the caller says of the cluster, by environment variables; docs/operations.md has the table."""

import os
from dataclasses import dataclass

import fairlead


@dataclass(frozen=True)
class Settings:
    """Everything has a default but what an existing store is entered by."""

    tag: str
    """Of Fairlead's images (FAIRLEAD_IMAGES_TAG; default: this release)."""
    prefix: str
    """Before the images' names, `registry.example/ml/` (FAIRLEAD_IMAGES_PREFIX; default: none)."""
    minio_image: str
    """In place of the manifests' (FAIRLEAD_MINIO_IMAGE)."""
    postgres_image: str
    """In place of the manifests' (FAIRLEAD_POSTGRES_IMAGE)."""
    store: str
    """URL of an S3 as pods reach it; empty for a MinIO of the suite's own (FAIRLEAD_CLUSTER_STORE)."""
    store_here: str
    """The same as this machine reaches it; by default a Service is forwarded to (FAIRLEAD_CLUSTER_STORE_HERE)."""
    bucket: str
    """A bucket of that S3; by default one is made and removed (FAIRLEAD_CLUSTER_BUCKET)."""
    access_key: str
    """Of that S3 (AWS_ACCESS_KEY_ID)."""
    secret_key: str
    """Of that S3 (AWS_SECRET_ACCESS_KEY)."""
    seconds: float
    """That anything may take to come up (FAIRLEAD_CLUSTER_SECONDS; default 300)."""

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read them."""

        def read(name: str, default: str = "") -> str:
            return os.environ.get(name) or default

        return cls(
            tag=read("FAIRLEAD_IMAGES_TAG", fairlead.__version__),
            prefix=read("FAIRLEAD_IMAGES_PREFIX"),
            minio_image=read("FAIRLEAD_MINIO_IMAGE"),
            postgres_image=read("FAIRLEAD_POSTGRES_IMAGE"),
            store=read("FAIRLEAD_CLUSTER_STORE").rstrip("/"),
            store_here=read("FAIRLEAD_CLUSTER_STORE_HERE").rstrip("/"),
            bucket=read("FAIRLEAD_CLUSTER_BUCKET"),
            access_key=read("AWS_ACCESS_KEY_ID"),
            secret_key=read("AWS_SECRET_ACCESS_KEY"),
            seconds=float(read("FAIRLEAD_CLUSTER_SECONDS", "300")),
        )

    def own_image(self, name: str) -> str:
        """The reference of one of Fairlead's images."""
        return f"{self.prefix}{name}:{self.tag}"
