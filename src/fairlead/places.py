"""Where things are kept: the home folder, the object store and the registry, each set by one environment variable."""

import os
from pathlib import Path

from fairlead.names import HOME_ENV, REGISTRY_ENV, STORE_ENV


def home() -> Path:
    """Fairlead's folder for everything it keeps on this machine (FAIRLEAD_HOME, default `.fairlead`)."""
    return Path(os.environ.get(HOME_ENV) or ".fairlead").absolute()


def store_url() -> str:
    """Address of the object store: `s3://bucket/prefix`, or a folder (FAIRLEAD_STORE, default `<home>/store`)."""
    return os.environ.get(STORE_ENV) or str(home() / "store")


def registry_url() -> str:
    """SQLAlchemy URL of the registry (FAIRLEAD_REGISTRY, default SQLite at `<home>/registry.db`)."""
    return os.environ.get(REGISTRY_ENV) or f"sqlite:///{home() / 'registry.db'}"


def checkpoints(run_id: str) -> Path:
    """Folder of a run's checkpoints, kept outside the step's own folder so that a killed run resumes."""
    return home() / "checkpoints" / run_id
