"""The registry: projects, runs with their metrics, data versions, model versions, evaluations and aliases.

`open_registry()` is the way in. SQLAlchemy is imported when a registry is opened, not before,
and Alembic only when its tables have to be made or changed.
"""

from typing import TYPE_CHECKING, Any

from fairlead.places import registry_url
from fairlead.registry.records import (
    DataVersionRecord,
    EvaluationRecord,
    Feedback,
    FeedbackRecord,
    MetricPoint,
    ModelRecord,
    Promotion,
    Reservation,
    RunRecord,
    VersionRecord,
)

if TYPE_CHECKING:
    from fairlead.registry.store import Registry

__all__ = [
    "DataVersionRecord",
    "EvaluationRecord",
    "Feedback",
    "FeedbackRecord",
    "MetricPoint",
    "ModelRecord",
    "Promotion",
    "Registry",
    "Reservation",
    "RunRecord",
    "VersionRecord",
    "open_registry",
]


def open_registry(url: str | None = None) -> "Registry":
    """Open the registry at a SQLAlchemy URL (default FAIRLEAD_REGISTRY), making or migrating its tables.

    `sqlite:///<file>` or `postgresql://<user>@<host>/<database>`. Raises ConfigError for any other
    address and RegistryError when the database cannot be used.
    """
    from fairlead.registry.store import Registry

    return Registry(url or registry_url())


def __getattr__(name: str) -> Any:
    if name == "Registry":
        from fairlead.registry.store import Registry

        return Registry
    raise AttributeError(name)
