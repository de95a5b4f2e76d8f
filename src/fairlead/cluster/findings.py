"""What an examination finds, of a machine or of a cluster."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    level: Level
    """`note`: something optional is not there."""
    detail: str
    remedy: str = ""
