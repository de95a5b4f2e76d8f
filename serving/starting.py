"""From arguments to loaded models: what a mistake ends, and what is waited for."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from fairlead.errors import RegistryError, StorageError
from fairlead.formats.model import ModelManifest, read_manifest
from fairlead.inference.loading import Model
from fairlead.inference.repository import Repository
from fairlead.inference.states import ModelStatus, State
from fairlead.names import ModelRef
from fairlead.registry import open_registry
from serving import metrics
from serving.desk import Desk
from serving.metrics import set_state
from serving.options import Wanted

logger = logging.getLogger("fairlead.serving")

# A registry or a store that is away comes back: a server that ended would only be started again, without a reason.
WAITED_FOR = (StorageError, RegistryError)
SECONDS_BETWEEN_STATES = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0

Labels = tuple[str, str, str]


async def load_models(wanted: Sequence[Wanted], repository: Repository, desk: Desk) -> list[Model]:
    """Load everything, the default version of a name last; the served versions in the order wanted.

    While a store or registry is away it is tried again, and the desk says so. Raises what nothing but a change
    of the arguments or of the version can mend.
    """
    served = [await _load(one, repository, desk) for one in reversed(wanted)]
    desk.open(repository)
    return served[::-1]


async def _load(wanted: Wanted, repository: Repository, desk: Desk) -> Model:
    pause = FIRST_PAUSE_SECONDS
    while True:
        desk.reason = f"{wanted.source} is being loaded"
        try:
            name = wanted.name or (await asyncio.to_thread(_manifest, wanted.source)).project
            return await repository.load(name, wanted.source, wanted.variant, keep=True)
        except WAITED_FOR as error:
            desk.reason = f"{wanted.source} cannot be loaded yet: {error}"
            logger.warning("%s; next try in %.0f s", desk.reason, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _manifest(source: str | Path) -> ModelManifest:
    if isinstance(source, Path):
        return read_manifest(source)
    with open_registry() as registry:
        return registry.resolve(ModelRef.parse(source)).manifest


async def publish_states(repository: Repository, desk: Desk) -> None:
    """Keep the metrics, and the reason why the server is not ready, as the models are."""
    published: dict[Labels, str] = {}
    while True:
        statuses = repository.statuses()
        states = {(one.name, one.version, one.variant): str(one.state) for one in statuses if one.variant}
        capacities = {(one.name, one.version, one.variant): one.capacity for one in statuses}
        for labels in {**published, **states}:
            if states.get(labels) != published.get(labels):
                set_state(*labels, states.get(labels, ""))
                capacity = capacities.get(labels)
                metrics.CAPACITY.labels(*labels).set(capacity.texts_per_second if capacity else 0)
                metrics.CAPACITY_TOKENS.labels(*labels).set(capacity.tokens_per_second if capacity else 0)
        published = states
        _judge(statuses, desk)
        await asyncio.sleep(SECONDS_BETWEEN_STATES)


def _judge(statuses: Sequence[ModelStatus], desk: Desk) -> None:
    """A server of which every model fails is not ready; one that answers for some is."""
    if desk.draining or desk.repository is None:
        return
    failed = [one for one in statuses if one.is_default and one.state is State.FAILED]
    working = [one for one in statuses if one.state is State.READY]
    desk.reason = f"{failed[0].version} fails: {failed[0].reason}" if failed and not working else ""
