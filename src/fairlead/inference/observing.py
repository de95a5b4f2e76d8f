"""What the engine tells whoever counts, without knowing who does."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Marks:
    """When the parts of one request were done, by time.perf_counter(); 0 for what did not come to be."""

    reading: float = 0.0
    """Its first text began to be tokenized."""
    read: float = 0.0
    """Its last text was tokenized."""
    computing: float = 0.0
    """The first batch with a text of it began."""
    computed: float = 0.0
    """The last batch with a text of it ended."""


MARKS: ContextVar[Marks | None] = ContextVar("marks", default=None)
"""Set by whoever asks and wants to know; costs nothing where it is not."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch that was computed."""

    model: str
    """Name on the endpoint."""
    version: str
    """`support_topics_v3`."""
    variant: str
    """`torch-fp32`."""
    texts: int
    """Texts in it."""
    tokens: int
    """Their tokens, without padding."""
    padded_tokens: int
    """With padding: what was computed."""
    tokenize_seconds: float
    """What tokenizing took since the batch before, of all texts that were read in that time."""
    queue_seconds: float
    """How long the oldest of its texts waited, tokenizing included."""
    compute_seconds: float
    """How long the model and making the answers took."""
    failed: int = 0
    """Texts that the model failed on."""


class Observer(Protocol):
    """Takes numbers. Called in the threads of the engine: it has to return at once and must not raise."""

    def on_batch(self, batch: Batch) -> None:
        """A batch was computed."""
        ...

    def on_refused(self, model: str, version: str, variant: str, reason: str) -> None:
        """A request was not accepted (`overloaded`), or given up (`deadline`, `cancelled`)."""
        ...


class Unobserved:
    """Counts nothing."""

    def on_batch(self, batch: Batch) -> None:
        """Let it go."""

    def on_refused(self, model: str, version: str, variant: str, reason: str) -> None:
        """Let it go."""
