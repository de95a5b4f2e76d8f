"""Following an alias of the registry, so that a promotion reaches a server that runs.

What is loaded goes on to serve whatever happens: a registry or store that is away, or a version that cannot be loaded,
is tried again after a pause that doubles each time.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fairlead.errors import FairleadError
from fairlead.inference.states import FollowStatus
from fairlead.names import ModelRef
from fairlead.registry import open_registry

logger = logging.getLogger("fairlead.inference")

# Servers that were started together do not ask together.
JITTER = 0.2
LONGEST_PAUSE_SECONDS = 3600.0


class Follower:
    """Looks after one name of a repository."""

    def __init__(
        self,
        name: str,
        ref: str,
        interval_seconds: float,
        served_digest: Callable[[], str],
        load: Callable[[str], Awaitable[Any]],
    ) -> None:
        self.status = FollowStatus(name, ref)
        self._interval_seconds = interval_seconds
        self._served_digest = served_digest
        self._load = load
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on, in the event loop that runs."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Look no more. A version that is being loaded is loaded to its end and not served."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            await self.look()

    def _pause(self) -> float:
        seconds = min(self._interval_seconds * 2.0**self.status.failures, LONGEST_PAUSE_SECONDS)
        return max(seconds, self._interval_seconds) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311

    async def look(self) -> None:
        """See what the alias names, and load it when something else is served. Raises nothing but cancellation."""
        status = self.status
        try:
            status.looked = time.time()
            if await asyncio.to_thread(_digest, status.ref) != self._served_digest():
                await self._load(status.name)
        # A follower that ends would leave a server behind that looks healthy and never changes.
        except Exception as error:
            status.failures += 1
            status.reason = str(error) if isinstance(error, FairleadError) else f"{type(error).__name__}: {error}"
            logger.warning("%s still serves what it did (%d. try): %s", status.name, status.failures, status.reason)
        else:
            status.failures, status.reason = 0, ""


def _digest(ref: str) -> str:
    with open_registry() as registry:
        return registry.resolve(ModelRef.parse(ref)).digest
