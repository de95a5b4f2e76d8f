"""A language model under its name on the endpoint: one thread writes, others wait for their turn, few of them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fairlead.errors import DeadlineExceeded, Overloaded
from fairlead.inference.config import GenerationConfig
from fairlead.inference.generation import Continuation, Writer

# A text takes seconds: who comes after these would wait for minutes.
MAX_WAITING = 16
RETRY_SECONDS = 5.0

Emit = Callable[[str], None]


@dataclass
class TextAnswer:
    """A continuation as an answer of V1 and V2."""

    continuation: Continuation
    probabilities: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, str]:
        """By the name of the signature's output."""
        return {"text": self.continuation.text}


@dataclass
class _Room:
    """Nothing waits by tokens here."""

    tokens: int = 0
    long_tokens: int = 0
    tokens_per_second: float = 1.0


@dataclass
class _NoTokenIds:
    """Prompts are texts only."""

    num_token_ids: int = 0


@dataclass(eq=False)
class ServedWriter:
    """A loaded language model."""

    name: str
    writer: Writer
    variant: str = "torch-fp32"
    failure: str = ""
    room: _Room = field(default_factory=_Room)
    engine: _NoTokenIds = field(default_factory=_NoTokenIds)

    def __post_init__(self) -> None:
        self.manifest = self.writer.manifest
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writing")
        self._waiting = 0

    async def predict(
        self, prompts: Sequence[str], deadline_seconds: float | None = None, config: GenerationConfig | None = None
    ) -> list[TextAnswer]:
        """A continuation of each prompt. Raises Overloaded, DeadlineExceeded, ConfigError for an empty prompt."""
        stop = threading.Event()
        try:
            async with asyncio.timeout(deadline_seconds):
                found = await self._begin(prompts, config or GenerationConfig(), stop, lambda _: None)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self.name}: the text was not written within the deadline; allow more") from error
        finally:
            stop.set()
        return [TextAnswer(one) for one in found]

    async def stream(self, prompt: str, config: GenerationConfig) -> AsyncIterator[str | Continuation]:
        """The continuation of a prompt in pieces as it is written, and then all of it."""
        loop, pieces, stop = asyncio.get_running_loop(), asyncio.Queue[str | None](), threading.Event()
        writing = self._begin([prompt], config, stop, lambda piece: _put(loop, pieces, piece))
        writing.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield (await writing)[0]
        finally:
            stop.set()

    def close(self) -> None:
        """Drop what waits."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self, prompts: Sequence[str], config: GenerationConfig, stop: threading.Event, emit: Emit
    ) -> "asyncio.Future[list[Continuation]]":
        if self._waiting >= MAX_WAITING:
            raise Overloaded(
                f"{self.name}: {self._waiting} texts are being written; send it again later", RETRY_SECONDS
            )
        self._waiting += 1
        loop = asyncio.get_running_loop()

        def write() -> list[Continuation]:
            try:
                return _write(self.writer, prompts, config, stop, emit)
            finally:
                loop.call_soon_threadsafe(self._leave)

        return loop.run_in_executor(self._thread, write)

    def _leave(self) -> None:
        self._waiting -= 1


def _write(
    writer: Writer, prompts: Sequence[str], config: GenerationConfig, stop: threading.Event, emit: Emit
) -> list[Continuation]:
    if stop.is_set():
        return []
    found, pieces = writer.open(prompts, config)
    for _, piece in pieces:
        if stop.is_set():
            break
        emit(piece)
    return found


def _put(loop: asyncio.AbstractEventLoop, pieces: "asyncio.Queue[str | None]", piece: str) -> None:
    loop.call_soon_threadsafe(pieces.put_nowait, piece)
