"""Prediction ids, which say when and by which server a prediction was made, so that its record is found at once.

A UUID of version 7 (RFC 9562, section 5.7): 48 bits of Unix time in milliseconds and 12 random bits; of the 62
bits that the format leaves to chance the first 32 are the server's.
"""

import random
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from fairlead.errors import ConfigError

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
# Clocks of two machines may differ by so much; an id from further ahead was made up.
CLOCK_SKEW_SECONDS = 300


@dataclass(frozen=True)
class PredictionId:
    """What an id says."""

    text: str
    """The id itself."""
    milliseconds: int
    """When the request was taken, Unix time in milliseconds."""
    server: str
    """The process that answered, 8 hexadecimal digits."""

    @classmethod
    def parse(cls, text: object) -> "PredictionId":
        """Read an id. Raises ConfigError for what no server of Fairlead gives out."""
        lowered = text.lower() if isinstance(text, str) else ""
        if not _UUID.fullmatch(lowered):
            shown = repr(text)[:60]
            raise ConfigError(f"prediction id: {shown} is not one; an answer carries it as prediction_id")
        parsed = cls(lowered, milliseconds_of(lowered), server_of(lowered))
        if parsed.milliseconds > (time.time() + CLOCK_SKEW_SECONDS) * 1000:
            raise ConfigError(f"prediction id: {lowered} is of the future, so no server gave it; correct it")
        return parsed

    @property
    def hour(self) -> str:
        """The hour of the prediction in UTC, as keys have it: `2026-03-01/14`."""
        return hour_of(self.milliseconds)


def milliseconds_of(text: str) -> int:
    """The time of an id that is known to be one: every answer is asked for it."""
    return int(text[:8] + text[9:13], 16)


def server_of(text: str) -> str:
    """The process of an id that is known to be one."""
    return f"{int(text[19:23] + text[24:], 16) >> 30 & 0xFFFFFFFF:08x}"


def hour_of(milliseconds: int) -> str:
    """An hour in UTC, as keys have it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d/%H")


class IdSource:
    """Gives out the ids of one process. To be made after a fork, or two processes would share a server's number."""

    def __init__(self) -> None:
        self._server = secrets.randbits(32)
        self._random = random.Random(secrets.randbits(128))  # noqa: S311 - an id is no secret
        self.server = f"{self._server:08x}"
        """What the ids say of the process, 8 hexadecimal digits."""

    def next(self) -> str:
        """A new id."""
        bits = self._random.getrandbits(42)
        low = f"{1 << 63 | self._server << 30 | bits >> 12:016x}"
        high = f"{time.time_ns() // 1_000_000:012x}7{bits & 0xFFF:03x}"
        return f"{high[:8]}-{high[8:12]}-{high[12:]}-{low[:4]}-{low[4:]}"
