"""One request and how it ended, for whoever counts, logs or keeps it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fairlead.inference.loading import Model
from serving.answers import Answer, Stamp
from serving.interface import Interface
from serving.questions import Question

Door = Literal["v1", "v2", "grpc", "openai"]


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered."""

    question: Question
    """The request."""
    answers: Sequence[Answer]
    """An answer for each of its texts."""
    stamp: Stamp
    """What the answer carries."""
    interface: Interface
    """Of the version that answered."""


def no_header(_: str) -> str | None:
    """Of a request that came without headers."""
    return None


@dataclass(slots=True)
class Exchange:
    """Filled in while the request is answered; what never came to be stays as it is here."""

    door: Door
    """The protocol."""
    model: str
    """The name that the caller used."""
    header: Callable[[str], str | None] = no_header
    """A header of HTTP or the metadata of gRPC by its name in lower case; read by who wants one."""
    started: float = field(default_factory=time.perf_counter)
    """When it came, by time.perf_counter: its first byte over HTTP, all of it over gRPC."""
    served: Model | None = None
    """What answers, once it is found."""
    question: Question | None = None
    """The request, once it is read and valid."""
    asked: float = 0.0
    """When the model was asked, by time.perf_counter; 0 when the request was refused before."""
    answered: Answered | None = None
    """The answers, once the model gave them."""
    done: float = 0.0
    """When it gave them."""
    status: int = 200
    """Status in HTTP, whatever the protocol; 499 when the caller left."""
    error: str = ""
    """The sentence of a failure."""
    ended: float = 0.0
    """When it ended, by time.perf_counter."""
    written: float = 0.0
    """When its answer was on the socket, by time.perf_counter."""
