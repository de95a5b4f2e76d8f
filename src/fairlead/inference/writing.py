"""A loaded language model that answers requests: continuations that are written a piece of each in turn."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Self, cast
from weakref import WeakSet

from fairlead.errors import DeadlineExceeded, Overloaded
from fairlead.formats.variants import REFERENCE
from fairlead.inference.capacity import Capacity
from fairlead.inference.config import GenerationConfig, ServingConfig
from fairlead.inference.generation import Continuation, Writer
from fairlead.inference.observing import Observer, Unobserved
from fairlead.inference.workers import Workers

DRAIN_POLL_SECONDS = 0.01
# Weight of the last continuation in the usual time of one.
NEWS = 0.2


class ServedWriter:
    """A loaded language model version under its name on the endpoint. Belongs to one event loop.

    Pieces are computed in the thread that computes for all models, between batches of the others, so that nothing else
    computes at the same time.
    """

    capacity: Capacity | None = None
    """How fast it is depends on what is asked of it; it is not measured."""
    failure = ""
    """Why it answers nothing of late; a continuation that fails says so itself."""

    def __init__(
        self,
        name: str,
        writer: Writer,
        config: ServingConfig | None = None,
        workers: Workers | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self.writer = writer
        self.manifest = writer.manifest
        self.variant = REFERENCE
        self.config = config or ServingConfig()
        self._own_workers = Workers() if workers is None else None
        self._workers = workers or cast(Workers, self._own_workers)
        self._observer = observer or Unobserved()
        # One that nobody holds any more takes no place.
        self._open: WeakSet[Generation] = WeakSet()
        self._usual_seconds = 1.0
        self._closed = False

    def generate(self, prompt: str, config: GenerationConfig, deadline_seconds: float | None = None) -> "Generation":
        """The continuation of a prompt, as it is written: `async for piece in ...`.

        Raises Overloaded at once when as many are written as may be. The iteration raises ConfigError for a prompt
        without a token, and DeadlineExceeded when it is not at its end `deadline_seconds` from now. Its place is free
        when it is at its end, cancelled, closed (`aclose`) or let go of.
        """
        if self._closed:
            raise self._unavailable()
        if len(self._open) >= self.config.generations:
            self._observer.on_refused(self.name, self.manifest.name, self.variant, "overloaded")
            seconds = self._usual_seconds
            raise Overloaded(
                f"{self.name}: {len(self._open)} texts are being written; try again in {seconds:.1f} s", seconds
            )
        generation = Generation(self, prompt, config, deadline_seconds)
        self._open.add(generation)
        return generation

    async def write(self, prompt: str, config: GenerationConfig, deadline_seconds: float | None = None) -> Continuation:
        """The whole continuation of a prompt; raises as `generate`."""
        generation = self.generate(prompt, config, deadline_seconds)
        try:
            generation.found.text = "".join([piece async for piece in generation])
        finally:
            await generation.aclose()
        return generation.found

    async def drain(self) -> None:
        """Wait until all continuations are at their end."""
        while self._open:
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    def close(self) -> None:
        """Begin nothing more, and let what is written fail at its next piece."""
        self._closed = True
        if self._own_workers is not None:
            self._own_workers.stop()

    def ended(self, generation: "Generation", seconds: float) -> None:
        """Take the place of a continuation back."""
        self._open.discard(generation)
        self._usual_seconds += NEWS * (seconds - self._usual_seconds)

    def call(self, step: Callable[[], str | None]) -> "Future[str | None]":
        """Compute a piece. Raises Overloaded when the server ends."""
        if self._closed:
            raise self._unavailable()
        return self._workers.scheduler.call(step)

    def late(self) -> DeadlineExceeded:
        """What a continuation fails with that is not at its end in time."""
        self._refused("deadline")
        return DeadlineExceeded(f"{self.name}: not written within the request's deadline; ask for fewer tokens")

    def _refused(self, reason: str) -> None:
        self._observer.on_refused(self.name, self.manifest.name, self.variant, reason)

    def _unavailable(self) -> Overloaded:
        return Overloaded(f"{self.name}: {self.manifest.name} is served no more; send the request again")


class Generation:
    """One continuation while it is written."""

    def __init__(
        self, served: ServedWriter, prompt: str, config: GenerationConfig, deadline_seconds: float | None
    ) -> None:
        self.found = Continuation(prompt)
        """Counts of tokens and the reason of the end; whole when the iteration is at its end."""
        self._served, self._prompt, self._config = served, prompt, config
        self._began = time.perf_counter()
        self._deadline_seconds = deadline_seconds
        self._pieces: Iterator[str] | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """The next piece."""
        if self._ended:
            raise StopAsyncIteration
        try:
            piece = await self._compute()
        except BaseException:
            # A failure, or a caller who has left: the place is free at once.
            await self.aclose()
            raise
        if piece is None:
            await self.aclose()
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Write no more of it."""
        if not self._ended:
            self._ended = True
            self._served.ended(self, time.perf_counter() - self._began)

    async def _compute(self) -> str | None:
        """The next piece, computed between the batches of other models; None at the end."""
        future = asyncio.wrap_future(self._served.call(self._step))
        try:
            async with asyncio.timeout(self._left()):
                piece: str | None = await future
                return piece
        except TimeoutError as error:
            raise self._served.late() from error

    def _step(self) -> str | None:
        if self._pieces is None:
            self.found, self._pieces = self._served.writer.open_one(self._prompt, self._config)
        return next(self._pieces, None)

    def _left(self) -> float | None:
        if self._deadline_seconds is None:
            return None
        return max(0.0, self._deadline_seconds - (time.perf_counter() - self._began))
