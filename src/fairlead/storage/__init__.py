"""The object store: one contract, kept by a folder and by S3, and the addresses that data and models come from."""

from fairlead.storage.contract import ObjectStat, ObjectStore
from fairlead.storage.opening import open_store

__all__ = ["ObjectStat", "ObjectStore", "open_store"]
