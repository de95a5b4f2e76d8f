"""Tells those who count, log or keep requests of many at a time, and not within any of them.

What they do takes half as long when it is done for some requests in a row: between two requests a batch was computed,
and nothing of theirs is in the core's caches any more.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from serving.exchange import Exchange
from serving.observer import Observer

logger = logging.getLogger("fairlead.serving")

SECONDS_TO_GATHER = 0.05
# Told of between two turns of the event loop, which takes half a millisecond.
AT_A_TIME = 8


class Gathering(Observer):
    """Tells `observers` how requests ended, later."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = list(observers)
        self._ended: deque[Exchange] = deque()

    def ended(self, exchange: Exchange) -> None:
        """It is told of when its answer is written, which is before the loop turns again."""
        asyncio.get_running_loop().call_soon(self._add, exchange)

    def _add(self, exchange: Exchange) -> None:
        exchange.written = time.perf_counter()
        if not self._ended:
            asyncio.get_running_loop().call_later(SECONDS_TO_GATHER, self._tell_some)
        self._ended.append(exchange)

    def _tell_some(self) -> None:
        for _ in range(min(AT_A_TIME, len(self._ended))):
            self._tell(self._ended.popleft())
        if self._ended:
            asyncio.get_running_loop().call_soon(self._tell_some)

    def flush(self) -> None:
        """Tell of all that ended."""
        while self._ended:
            self._tell(self._ended.popleft())

    def _tell(self, exchange: Exchange) -> None:
        for observer in self.observers:
            try:
                observer.ended(exchange)
            # Whoever counts may fail; the others are told all the same.
            except Exception:
                logger.exception("%s was not told of a request", type(observer).__name__)

    def close(self) -> None:
        """Tell of what is left, and close who can be closed."""
        self.flush()
        for observer in reversed(self.observers):
            observer.close()
