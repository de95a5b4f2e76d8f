"""What a reader may know of the models of a server."""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fairlead.inference.capacity import Capacity


class State(StrEnum):
    """Where a version is in its life on a server."""

    LOADING = "loading"
    """It is verified, loaded and measured."""
    READY = "ready"
    """It answers."""
    FAILED = "failed"
    """It could not be loaded, or fails on everything."""
    UNLOADING = "unloading"
    """It answers what was accepted before another took its place, or before it was unloaded."""
    UNLOADED = "unloaded"
    """It was unloaded, and can be loaded again by its name alone."""


@dataclass(frozen=True)
class ModelStatus:
    """One version on a server, or one that was asked for."""

    name: str
    """Name on the endpoint."""
    version: str
    """`support_topics_v3`; while it is not known, what was asked for (`support_topics@champion`, a folder)."""
    state: State
    """Where it is."""
    reason: str = ""
    """Why, when it failed."""
    is_default: bool = False
    """Whether it answers requests that name no version."""
    variant: str = ""
    """`torch-fp32`; empty while it is not loaded."""
    digest: str = ""
    """Of the version; empty while it is not loaded."""
    capacity: Capacity | None = None
    """How fast it is here; None while it is not measured."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"state": str(self.state), "capacity": self.capacity.to_dict() if self.capacity else None}


@dataclass
class FollowStatus:
    """How the following of an alias goes."""

    name: str
    """Name on the endpoint."""
    ref: str
    """`support_topics@champion`."""
    reason: str = ""
    """Why what is served is not what the alias names, or why that is not known; empty when all is well."""
    failures: int = 0
    """How often in a row it did not work."""
    looked: float = field(default_factory=time.time)
    """Unix time of the last look."""
