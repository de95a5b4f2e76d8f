"""What a loaded variant can do on this machine, as it was measured, and what follows for batches and the queue.

A batch of n texts, padded to the longest of L tokens, is taken to last a + b·n·L + c·n·L² seconds: a call's
overhead, what every token costs, and attention. The three are fitted to measurements.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

# Tokens of the texts that `texts_per_second` is told for, where the model takes as many.
STATED_LENGTH = 64


@dataclass(frozen=True)
class Measurement:
    """One point of the table."""

    texts: int
    """Texts of the batch."""
    length: int
    """Tokens of each."""
    threads: int
    """Threads that computed it."""
    seconds: float
    """Of one call, the fastest of some."""
    calls: int = 1
    """Calls that ran at the same time; `seconds` are those of each."""


@dataclass(frozen=True)
class Capacity:
    """How fast a variant is here, and how it is used best."""

    device: str
    """`cpu` or `cuda`."""
    threads: int
    """Threads of one call."""
    batch_tokens: int
    """Tokens of a batch at most, padding included; a longer text is a batch of its own."""
    wait_seconds: float
    """How long an idle model waits for more texts after the first."""
    longest: int
    """Tokens of the longest text."""
    call_seconds: float
    """a of the model above."""
    token_seconds: float
    """b."""
    square_seconds: float = 0.0
    """c."""
    measurements: tuple[Measurement, ...] = ()
    """What the rest was fitted to; none when it was set and not measured."""
    seconds: float = 0.0
    """How long measuring took."""
    calls: int = 1
    """Calls that run at a time, each with `threads` threads of its own."""
    slowdown: float = 1.0
    """How much longer a call takes while all of them run than alone."""

    def text_seconds(self, length: int) -> float:
        """What one more text of so many tokens adds to a batch."""
        return (self.token_seconds + self.square_seconds * length) * length

    def batch_seconds(self, texts: int, length: int) -> float:
        """Time of a batch of so many texts, padded to so many tokens."""
        return self.call_seconds + texts * self.text_seconds(length)

    @property
    def stated_length(self) -> int:
        """Tokens of the texts that the two rates are told for."""
        return min(STATED_LENGTH, self.longest)

    @property
    def texts_per_second(self) -> float:
        """In full batches of texts of `stated_length` tokens, all calls together."""
        texts = max(1, self.batch_tokens // self.stated_length)
        return self.calls * texts / (self.slowdown * self.batch_seconds(texts, self.stated_length))

    @property
    def tokens_per_second(self) -> float:
        """The same in tokens."""
        return self.texts_per_second * self.stated_length

    def describe(self) -> str:
        """One line for the log."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        together = f"{self.calls} calls at a time of " if self.calls > 1 else ""
        return (
            f"{self.texts_per_second:.0f} texts/s of {self.stated_length} tokens on {self.device}, "
            f"{together}{threads}, batches of {self.batch_tokens} tokens, "
            f"waiting {self.wait_seconds * 1e3:.1f} ms, one text of {self.longest} tokens takes "
            f"{self.batch_seconds(1, self.longest) * 1e3:.1f} ms (measured in {self.seconds:.1f} s)"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, the two rates included."""
        rates = {"texts_per_second": self.texts_per_second, "tokens_per_second": self.tokens_per_second}
        return asdict(self) | rates

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `to_dict` gave, so that another process of this machine need not measure again."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(**known | {"measurements": tuple(Measurement(**one) for one in values.get("measurements", ()))})
