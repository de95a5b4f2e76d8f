"""The models of one server: which versions are loaded under which name, and how that changes while they serve.

A version that another takes the place of, or that is unloaded, is named no more at once. Whoever got it before goes on
to ask it; its memory is given back when the last of them is answered and has let go of it.
"""

import asyncio
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from fairlead.errors import FairleadError, NotFound
from fairlead.inference.config import ServingConfig
from fairlead.inference.following import Follower
from fairlead.inference.loading import Loader, Model
from fairlead.inference.observing import Observer, Unobserved
from fairlead.inference.served import Served as Served
from fairlead.inference.states import FollowStatus, ModelStatus, State
from fairlead.inference.workers import Workers
from fairlead.names import ModelRef, version_name

DRAIN_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Source:
    """What a name was loaded from last."""

    address: str | Path
    variant: str | None


class Repository:
    """The served versions by name. Its coroutines belong to one event loop; `get` may be called from any thread."""

    def __init__(
        self,
        served: Sequence[Model] = (),
        config: ServingConfig | None = None,
        observer: Observer | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.config = config or ServingConfig()
        self._workers = workers or Workers(self.config.threads)
        self._loader = Loader(self.config, self._workers, observer or Unobserved())
        # One, since two versions that are read at once take the memory of both.
        self._loading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loading")
        self._served: dict[str, list[Model]] = {one.name: [one] for one in served}
        self._retired: list[weakref.ref[Model]] = []
        self._sources: dict[str, Source] = {}
        self._pending: dict[tuple[str, str], ModelStatus] = {}
        self._followers: dict[str, Follower] = {}

    def names(self) -> list[str]:
        """Names on the endpoint that answer."""
        return list(self._served)

    def get(self, name: str, version: str = "") -> Model:
        """What is served under `name`, in `version` (`support_topics_v3`, `v3` or `3`) where one is given.

        Raises NotFound, naming what there is.
        """
        versions = self._served.get(name)
        if versions is None:
            raise NotFound(f"model: {name!r} is not served here; ask for {', '.join(self._served) or 'another'}")
        if not version:
            return versions[0]
        for served in versions:
            number = served.manifest.version
            if version in (version_name(served.manifest.project, number), f"v{number}", str(number)):
                return served
        known = " and ".join(repr(served.manifest.name) for served in versions)
        raise NotFound(f"version: {name} is not served in version {version!r} but in {known}; ask for that")

    async def load(
        self, name: str, source: str | Path | None = None, variant: str | None = None, keep: bool = False
    ) -> Model:
        """Serve the version in a folder or of a reference (`support_topics@champion`) under `name`, from now on.

        Without a source, what the name was loaded from last is looked up again. The version that answered until now
        answers until the new one is ready, and no request fails in between; with `keep` it stays, to be asked for by
        its number. Raises what kept it from loading; then all stays as it was.
        """
        wanted = self._source(name, source, variant)
        key = (name, str(wanted.address))
        self._pending[key] = ModelStatus(name, str(wanted.address), State.LOADING)
        try:
            loop = asyncio.get_running_loop()
            arguments = (name, wanted.address, wanted.variant, lambda digest: self._find(name, digest))
            served = await loop.run_in_executor(self._loading, self._loader.load, *arguments)
        except asyncio.CancelledError:
            del self._pending[key]
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, FairleadError) else f"{type(error).__name__}: {error}"
            self._pending[key] = replace(self._pending[key], state=State.FAILED, reason=reason)
            raise
        # Whatever was tried under this name before is settled.
        self._pending = {known: status for known, status in self._pending.items() if known[0] != name}
        self._sources[name] = wanted
        self._put(served, keep)
        self._follow(name, wanted)
        return served

    async def unload(self, name: str, version: str = "") -> None:
        """Serve `name`, or one version of it, no more; returns when all that was accepted is answered.

        Raises NotFound.
        """
        leaving = [self.get(name, version)] if version else list(self._served.get(name) or [self.get(name)])
        staying = [served for served in self._served[name] if served not in leaving]
        if staying:
            self._served[name] = staying
        else:
            del self._served[name]
            self._stop_following(name)
        self._retire(leaving)
        for served in leaving:
            await served.drain()

    def statuses(self) -> list[ModelStatus]:
        """Every version that is served, loading, failed, unloading or unloaded."""
        found = [
            _status(served, State.FAILED if served.failure else State.READY, served is versions[0])
            for versions in self._served.values()
            for served in versions
        ]
        found += self._pending.values()
        found += [_status(served, State.UNLOADING) for served in self._still_retired()]
        named = {status.name for status in found}
        return found + [
            ModelStatus(name, str(source.address), State.UNLOADED)
            for name, source in self._sources.items()
            if name not in named
        ]

    def following(self) -> list[FollowStatus]:
        """How the following of aliases goes, one a name."""
        return [follower.status for follower in self._followers.values()]

    async def drain(self) -> None:
        """Change nothing more, and wait until all that was accepted is answered."""
        for name in list(self._followers):
            self._stop_following(name)
        for served in [*(one for versions in self._served.values() for one in versions), *self._still_retired()]:
            await served.drain()

    def close(self) -> None:
        """Fail what still waits: the grace period is over. Nothing is accepted any more."""
        for name in list(self._followers):
            self._stop_following(name)
        for served in [*(one for versions in self._served.values() for one in versions), *self._still_retired()]:
            served.close()
        self._loading.shutdown(wait=False, cancel_futures=True)
        self._workers.stop()

    def _source(self, name: str, address: str | Path | None, variant: str | None) -> Source:
        if address is not None:
            return Source(address, variant)
        if name not in self._sources:
            raise NotFound(f"model: {name!r} was never loaded here; name a version or a folder to load it from")
        return self._sources[name]

    def _find(self, name: str, digest: str) -> Model | None:
        return next((one for one in self._served.get(name, []) if one.manifest.digest == digest), None)

    def _put(self, served: Model, keep: bool) -> None:
        """Let it answer in the place of what did; one assignment, so that a name always answers."""
        before = [one for one in self._served.get(served.name, []) if one is not served]
        self._served[served.name] = [served, *before] if keep else [served]
        if not keep:
            self._retire(before)

    def _retire(self, versions: Sequence[Model]) -> None:
        self._retired = [weakref.ref(served) for served in [*self._still_retired(), *versions]]

    def _still_retired(self) -> list[Model]:
        return [served for reference in self._retired if (served := reference()) is not None]

    def _follow(self, name: str, source: Source) -> None:
        """Follow the alias that a name was loaded from, when that is wished."""
        if name in self._followers and self._followers[name].status.ref == str(source.address):
            return
        self._stop_following(name)
        if self.config.follow_seconds and isinstance(source.address, str) and ModelRef.parse(source.address).alias:
            follower = Follower(name, source.address, self.config.follow_seconds, self._digest_of(name), self.load)
            self._followers[name] = follower
            follower.start()

    def _digest_of(self, name: str) -> Callable[[], str]:
        return lambda: self.get(name).manifest.digest

    def _stop_following(self, name: str) -> None:
        if follower := self._followers.pop(name, None):
            follower.stop()


def _status(served: Model, state: State, is_default: bool = False) -> ModelStatus:
    manifest = served.manifest
    return ModelStatus(
        served.name, manifest.name, state, served.failure, is_default, served.variant, manifest.digest, served.capacity
    )
