"""Settings of generation."""

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
