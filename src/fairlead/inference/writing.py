"""A loaded language model that answers requests: continuations that are written a token of each in turn."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Self, cast
from weakref import WeakSet

from fairlead.errors import DeadlineExceeded, Overloaded
from fairlead.formats.variants import REFERENCE
from fairlead.inference.capacity import Capacity
from fairlead.inference.config import GenerationConfig, ServingConfig
from fairlead.inference.generation import Continuation, Piece, Writer
from fairlead.inference.observing import Observer, Unobserved
from fairlead.inference.workers import Workers

DRAIN_POLL_SECONDS = 0.01
# Weight of the last continuation in the usual time of one.
NEWS = 0.2
# What one token more of every text made certain; None at the end.
Step = list[Piece] | None


class ServedWriter:
    """A loaded language model version under its name on the endpoint. Belongs to one event loop.

    Steps are computed in the thread that computes for all models, between batches of the others, so that nothing else
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

    def generate(
        self, prompts: Sequence[str], config: GenerationConfig, deadline_seconds: float | None = None
    ) -> "Generation":
        """The continuations of a request's prompts, as they are written: `async for pieces in ...`.

        Raises Overloaded at once when as many are written as may be. The iteration raises ConfigError for a prompt
        without a token, and DeadlineExceeded when it is not at its end `deadline_seconds` from now. The places are
        free when it is at its end, cancelled, closed (`aclose`) or let go of.
        """
        if self._closed:
            raise self._unavailable()
        taken = sum(len(generation.prompts) for generation in self._open)
        # More than there are places are written where they keep nobody out.
        if taken and taken + len(prompts) > self.config.generations:
            self._refused("overloaded")
            seconds = self._usual_seconds
            raise Overloaded(f"{self.name}: {taken} texts are being written; try again in {seconds:.1f} s", seconds)
        generation = Generation(self, prompts, config, deadline_seconds)
        self._open.add(generation)
        return generation

    async def write(
        self, prompts: Sequence[str], config: GenerationConfig, deadline_seconds: float | None = None
    ) -> list[Continuation]:
        """The whole continuations of prompts, in order; raises as `generate`."""
        generation = self.generate(prompts, config, deadline_seconds)
        try:
            async for _ in generation:
                pass
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

    def call(self, step: Callable[[], Step]) -> "Future[Step]":
        """Compute a step of a continuation. Raises Overloaded when the server ends."""
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
    """The continuations of one request while they are written, all in the same steps."""

    def __init__(
        self, served: ServedWriter, prompts: Sequence[str], config: GenerationConfig, deadline_seconds: float | None
    ) -> None:
        self.prompts = prompts
        """What is continued."""
        self.found: list[Continuation] = []
        """Texts, counts of tokens and reasons of the end so far; none before the first step."""
        self._served, self._config = served, config
        self._began = time.perf_counter()
        self._deadline_seconds = deadline_seconds
        self._steps: Iterator[list[Piece]] | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Piece]:
        """The next pieces, one at least, each with the place of its prompt."""
        pieces: Step = []
        try:
            # A step that shows nothing yet is no news.
            while not self._ended and not pieces:
                pieces = await self._step()
                if pieces is None:
                    break
        except BaseException:
            # A failure, or a caller who has left: the place is free at once.
            await self.aclose()
            raise
        if not pieces:
            await self.aclose()
            raise StopAsyncIteration
        return pieces

    async def aclose(self) -> None:
        """Write no more of it."""
        if not self._ended:
            self._ended = True
            self._served.ended(self, time.perf_counter() - self._began)

    async def _step(self) -> Step:
        try:
            async with asyncio.timeout(self._left()):
                if self._steps is None:
                    # A prompt of a megabyte takes a second, in which the computing thread has better things to do.
                    opening = asyncio.to_thread(self._served.writer.open, self.prompts, self._config)
                    self.found, self._steps = await opening
                steps = self._steps
                return await asyncio.wrap_future(self._served.call(lambda: next(steps, None)))
        except TimeoutError as error:
            raise self._served.late() from error

    def _left(self) -> float | None:
        if self._deadline_seconds is None:
            return None
        return max(0.0, self._deadline_seconds - (time.perf_counter() - self._began))
