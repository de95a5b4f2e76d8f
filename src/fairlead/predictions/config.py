"""Settings of the prediction log."""

from typing import Literal

from pydantic import Field

from fairlead.config import Config

TextName = Literal["none", "hash", "full"]


class PredictionLogConfig(Config):
    """What is kept of each answer, and how it gets into the store."""

    text: TextName = "none"
    """What is kept of the texts: `none`; `hash`, their SHA-256, by which a text at hand is found again, and by which
    whoever guesses a text can confirm it; or `full`. Default none."""
    flush_seconds: float = Field(10, ge=0.1, le=3600)
    """Seconds that a record waits for others before it is written, 0.1 to 3,600: what a killed server loses at most.
    Default 10."""
    batch_records: int = Field(5000, ge=1, le=1_000_000)
    """Records of a file at most, 1 to 1,000,000, but for one request that has more. Default 5,000."""
    max_pending_records: int = Field(50_000, ge=1, le=10_000_000)
    """Records in memory that are not written, 1 to 10,000,000; while there are as many, new ones are dropped and
    counted. Default 50,000."""
    max_pending_bytes: int = Field(64 << 20, ge=0, le=1 << 40)
    """The same in bytes of kept texts, 0 to 2^40. Default 67,108,864 (64 MiB)."""
