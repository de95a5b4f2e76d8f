"""Where things are kept: the home folder, the object store and the registry, each set by one environment variable."""

import os
from pathlib import Path

from fairlead.names import AT_HOME, CHECKPOINTS, CHECKPOINTS_ENV, HOME_ENV, IN_STORE, REGISTRY_ENV, STORE_ENV


def home() -> Path:
    """Fairlead's folder for everything it keeps on this machine (FAIRLEAD_HOME, default `.fairlead`)."""
    return Path(os.environ.get(HOME_ENV) or ".fairlead").absolute()


def store_url() -> str:
    """Address of the object store: `s3://bucket/prefix`, or a folder (FAIRLEAD_STORE, default `<home>/store`)."""
    return os.environ.get(STORE_ENV) or str(home() / "store")


def registry_url() -> str:
    """SQLAlchemy URL of the registry (FAIRLEAD_REGISTRY, default SQLite at `<home>/registry.db`)."""
    return os.environ.get(REGISTRY_ENV) or f"sqlite:///{home() / 'registry.db'}"


def run_folder(run_id: str) -> Path:
    """Local folder of a run, outside the step's own folder so that a killed run finds what it left."""
    return home() / CHECKPOINTS / run_id


def checkpoints_url(run_id: str, setting: str | None = None) -> str:
    """Address of a run's checkpoints, by `training.checkpoints` or else FAIRLEAD_CHECKPOINTS.

    Either is `home` (the default: the run's folder), `store` (`checkpoints/` in the object store), a path
    or an `s3://` address.
    """
    where = setting or os.environ.get(CHECKPOINTS_ENV) or AT_HOME
    if where == AT_HOME:
        return str(run_folder(run_id))
    root = f"{store_url().rstrip('/')}/{CHECKPOINTS}" if where == IN_STORE else where.rstrip("/")
    return f"{root}/{run_id}"
