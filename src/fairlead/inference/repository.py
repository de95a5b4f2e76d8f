"""The models of one server: which versions are loaded under which name, and how they are asked."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from fairlead.errors import NotFound
from fairlead.inference.answers import Answer
from fairlead.inference.engine import Engine, TokenIds
from fairlead.names import version_name


class Served:
    """A loaded version under its name on the endpoint."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self.engine = engine
        self.manifest = engine.manifest
        self.variant = engine.variant
        # One worker: the model takes all cores anyway, and the event loop stays free for health and refusals.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")

    async def predict(
        self, texts: Sequence[str] | Sequence[TokenIds], deadline_seconds: float | None = None
    ) -> list[Answer]:
        """One answer a text (or its token ids), in order.

        Raises Overloaded at once when there is no room, DeadlineExceeded when the answer would come later than
        `deadline_seconds` from now. A caller that is cancelled gives its place in the queue back.
        """
        ask: Callable[..., list[Answer]] = self.engine.predict if isinstance(texts[0], str) else self.engine.answer
        return await asyncio.get_running_loop().run_in_executor(self._worker, ask, texts)

    def close(self) -> None:
        """Drop what still queues: the grace period is over, and each would hold up the end by seconds."""
        self._worker.shutdown(wait=False, cancel_futures=True)


class Repository:
    """The served versions by name."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = {one.name: one for one in served}

    def names(self) -> list[str]:
        """Names on the endpoint."""
        return list(self._served)

    def get(self, name: str, version: str = "") -> Served:
        """What is served under `name`, in `version` (`support_topics_v3`, `v3` or `3`) where one is given.

        Raises NotFound, naming what there is.
        """
        served = self._served.get(name)
        if served is None:
            raise NotFound(f"model: {name!r} is not served here; ask for {', '.join(self._served)}")
        number = served.manifest.version
        if version and version not in (version_name(served.manifest.project, number), f"v{number}", str(number)):
            raise NotFound(
                f"version: {name} is not served in version {version!r} but in {served.manifest.name!r}; ask for that"
            )
        return served

    def close(self) -> None:
        """Close all."""
        for served in self._served.values():
            served.close()
