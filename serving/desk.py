"""Where the doors come together: find the model, see whether there is room, read, ask, and tell who observes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from fairlead.errors import Overloaded
from fairlead.inference.loading import Model
from fairlead.inference.repository import Repository
from fairlead.inference.writing import ServedWriter
from serving.answers import Answer, Stamp
from serving.exchange import Answered, Exchange
from serving.failures import NotReady, status_of
from serving.interface import EMBEDDING, Interface, interface_of
from serving.observer import Observer
from serving.questions import Question

# Parsing more than this takes milliseconds, in which nobody else is answered.
LARGE_BODY_BYTES = 256 << 10
# What nginx calls a request whose client closed the connection.
CLIENT_LEFT = 499


def check_working(served: Model) -> None:
    """Raises NotReady for a model that fails on everything."""
    if served.failure:
        raise NotReady(f"{served.name}: {served.manifest.name} fails, {served.failure}; see the server's log")


def check_room(served: Model, num_bytes: int) -> None:
    """Refuse a body that is a task to parse while the queue of such requests is full. Raises Overloaded."""
    if isinstance(served, ServedWriter):
        # It counts texts that are written, whatever their length.
        return
    room = served.room
    seconds = room.long_tokens / room.tokens_per_second
    if num_bytes >= LARGE_BODY_BYTES and room.long_tokens and seconds > served.config.long_queue_seconds:
        raise Overloaded(
            f"{served.name}: large requests of {seconds:.1f} s wait; send it again later, or in smaller parts", seconds
        )


class Desk:
    """The state of a server and its models, as the doors see them."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self.observers = list(observers)
        self.repository: Repository | None = None
        """The models; None until they are loaded."""
        self.reason = "the model is being loaded"
        """Why the server is not ready; empty when it is."""
        self.draining = False
        """Whether it was told to end."""

    def open(self, repository: Repository) -> None:
        """The models are loaded: from now on requests are welcome."""
        self.repository, self.reason = repository, ""

    def drain(self) -> None:
        """The server will end: requests are answered still, but better sent to another."""
        self.draining, self.reason = True, "the server is ending"

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return not self.reason

    def models(self) -> Repository:
        """The models. Raises NotReady while there are none."""
        if self.repository is None:
            raise NotReady(f"server: it is not ready, {self.reason}; try again")
        return self.repository

    def find(self, name: str, version: str = "") -> Model:
        """What is served under a name. Raises NotReady, NotFound."""
        return self.models().get(name, version)

    async def answer(
        self,
        exchange: Exchange,
        version: str,
        read: Callable[[Interface], Awaitable[tuple[Question, float | None]]],
        num_bytes: int = 0,
    ) -> Answered:
        """Answer one request, which `read` reads once its model is found, with the seconds that its caller waits.

        `num_bytes` is the size of its body as far as it is known; 0 where it is not.

        Raises what the caller has to know: see failures.STATUSES.
        """
        with self.told(exchange):
            exchange.served = served = self.find(exchange.model, version)
            check_room(served, num_bytes)
            exchange.question, seconds = await read(interface_of(served))
            return await self.ask(exchange, served, exchange.question, seconds)

    @contextmanager
    def told(self, exchange: Exchange) -> Iterator[None]:
        """Tell who observes of a request that begins and ends within the block."""
        for observer in self.observers:
            observer.began(exchange)
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            exchange.status, exchange.error = CLIENT_LEFT, "the caller left"
            raise
        except Exception as error:
            exchange.status, _, exchange.error = status_of(error)
            raise
        finally:
            exchange.ended = time.perf_counter()
            for observer in self.observers:
                observer.ended(exchange)

    def flush(self) -> None:
        """Let all who observe know of every request that ended."""
        for observer in self.observers:
            observer.flush()

    async def ask(self, exchange: Exchange, served: Model, question: Question, seconds: float | None) -> Answered:
        """Ask the model, within `told`. Raises what the caller has to know."""
        exchange.asked = time.perf_counter()
        left = None if seconds is None else seconds - (exchange.asked - exchange.started)
        answers = await _answers(served, question, left)
        exchange.done = time.perf_counter()
        stamp = Stamp(exchange.model, served.manifest, served.variant)
        exchange.answered = answered = Answered(question, answers, stamp, interface_of(served))
        return answered


async def _answers(served: Model, question: Question, seconds: float | None) -> Sequence[Answer]:
    if isinstance(served, ServedWriter):
        assert question.generation is not None
        return await served.write([str(item) for item in question.items], question.generation, seconds)
    if EMBEDDING not in question.outputs:
        return await served.predict(question.items, seconds)
    embedded = await served.embed(question.items, seconds)
    return [one.normalized() for one in embedded] if question.normalize else embedded
