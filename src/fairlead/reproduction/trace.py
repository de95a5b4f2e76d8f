"""From a prediction back to the version, the run, the code, the data and the settings that it came from."""

from dataclasses import asdict, dataclass
from typing import Any

from fairlead import places
from fairlead.errors import BrokenLink, UserError
from fairlead.names import ModelRef
from fairlead.predictions.finding import find
from fairlead.predictions.ids import PredictionId
from fairlead.registry import Registry, VersionRecord
from fairlead.registry.records import DataVersionRecord, RunRecord
from fairlead.reproduction.links import ancestors
from fairlead.storage import open_store

Event = dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """One prediction and all that it came from."""

    events: list[Event]
    """What the log has of it, one event a text."""
    version: VersionRecord
    """The version that answered."""
    run: RunRecord
    """The run that trained it."""
    data: DataVersionRecord
    """The data version that the run read."""
    parents: list[str]
    """Versions that it continues, the parent first."""
    feedback: list[dict[str, Any]]
    """True labels of its texts that are known."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        training = self.version.manifest.training
        version = {name: value for name, value in vars(self.version).items() if name != "manifest"}
        run = {name: value for name, value in vars(self.run).items() if name not in ("config", "code", "environment")}
        data = {name: value for name, value in vars(self.data).items() if name != "manifest"}
        return {
            "prediction": [event["data"] for event in self.events],
            "events": self.events,
            "version": version,
            "run": run,
            "code": training.code.to_dict(),
            "environment": training.environment.to_dict(),
            "data": data | {"sources": self.data.manifest.get("sources", {})},
            "settings": training.config,
            "parents": self.parents,
            "feedback": self.feedback,
        }


def find_events(registry: Registry, prediction_id: str) -> list[Event]:
    """What the log in the store has of a prediction, of whichever project. Raises NotFound, saying why."""
    projects = [model.project for model in registry.list_models()]
    return find(open_store(places.store_url()), projects, PredictionId.parse(prediction_id))


def answering_version(registry: Registry, events: list[Event]) -> VersionRecord:
    """The registered version that gave an answer. Raises BrokenLink when it is gone or has another digest."""
    answered = events[0]["data"]
    try:
        version = registry.resolve(ModelRef.parse(answered["version"]))
    except UserError as error:
        raise BrokenLink(
            f"{answered['version']}: it answered and is not registered here: {error}", "version"
        ) from error
    if version.digest != answered["digest"]:
        raise BrokenLink(
            f"{version.name}: the one registered here has the digest {version.digest}, and {answered['digest']} "
            "answered; use the registry that the server used",
            "version",
        )
    return version


def trace(registry: Registry, events: list[Event]) -> Trace:
    """Walk from a prediction's events to everything they came from. Raises BrokenLink, which names what is gone."""
    version = answering_version(registry, events)
    try:
        run, data = registry.get_run(version.run_id), registry.get_data_version(version.data_digest)
    except UserError as error:
        raise BrokenLink(f"{version.name}: what it came from is not registered here: {error}", "run") from error
    known = [asdict(one) for one in registry.get_feedback(events[0]["data"]["prediction_id"])]
    return Trace(events, version, run, data, [parent.name for parent in ancestors(version)], known)
