"""Settings of generation and of serving."""

from pydantic import Field, field_validator

from fairlead.config import Config

MAX_STOPS = 16


class GenerationConfig(Config):
    """How a language model continues a prompt."""

    max_new_tokens: int = Field(128, ge=1, le=100_000)
    """Tokens written at most, 1 to 100,000. Default 128."""
    temperature: float = Field(1.0, ge=0, le=100)
    """What logits are divided by before a token is drawn; 0 takes the most probable token. 0 to 100, default 1."""
    top_k: int | None = Field(None, ge=1)
    """Draw from the k most probable tokens only. Default: from all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw from the fewest tokens whose probabilities sum to p at least, above 0 to 1. Default 1: from all."""
    stop: list[str] = Field(default_factory=list, max_length=MAX_STOPS)
    """Texts that end the continuation where they begin, 16 at most; they are not part of it. Default: none."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the draws, 0 to 2^32 - 1. Default 0."""

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if "" in value:
            raise ValueError("an empty text stands everywhere and would stop at once")
        return value


class ServingConfig(Config):
    """How requests are batched, and how many may wait. What is not set is measured when a version is loaded."""

    calibration_seconds: float = Field(3.0, ge=0, le=600)
    """Time for measuring a version when it is loaded, in seconds, 0 to 600; a slow model's two smallest batches are
    measured even where they take longer. Default 3."""
    threads: int | None = Field(None, ge=1, le=1024)
    """Threads that compute, of all forward passes that run at a time, 1 to 1,024; how many share one is measured.
    Default: one a core."""
    batch_tokens: int | None = Field(None, ge=1, le=10_000_000)
    """Tokens of a batch at most, padding included; a longer text is a batch of its own. Default: measured, the fewest
    that give about the best tokens a second."""
    wait_milliseconds: float | None = Field(None, ge=0, le=1000)
    """How long a device that is idle waits for more texts after the first, in ms, 0 to 1,000. Default: not at all on a
    CPU, half of a call's overhead and 2 ms at most on a GPU."""
    queue_milliseconds: float | None = Field(None, ge=0, le=3_600_000)
    """How long a request may wait for its turn, in ms; what would wait longer is refused at once. Default:
    found while serving, 1 to 3 times what the longest of a hundred usual texts takes alone, 25 ms at least."""
    follow_seconds: float | None = Field(None, ge=0.01, le=86_400)
    """How often a server looks where the alias points that it was started with (`support_topics@champion`), and takes
    the version over, in seconds, 0.01 to 86,400. Default: never."""
    generations: int = Field(8, ge=1, le=10_000)
    """Texts that a language model writes at once, a token of each in turn; what comes beyond is refused, but for one
    request of more texts while nothing else is written. 1 to 10,000, default 8."""
    long_queue_seconds: float = Field(10.0, ge=0, le=3600)
    """How many seconds of computing requests of more than one batch, which take turns with the others, may wait
    for, 0 to 3,600. Default 10."""
