"""Checkpoints of a run in an object store: complete or absent, checked by digest before use.

    step-00000120/
        model.safetensors        weights and buffers
        optimizer.safetensors    the optimizer's tensors; each part of the run has such a file
        state.json               State, with the SHA-256 of the others; written last, removed first
        corrupt.json             the state of one that was found damaged, in place of state.json

The store is a folder or an S3 prefix of the run's own. Nothing is pickled. There is no random state:
it is a function of the step (fairlead.training.batching.batches).
"""

import json
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from fairlead.config import Config
from fairlead.errors import IntegrityError, NotFound
from fairlead.formats.digests import of_bytes
from fairlead.storage import ObjectStore, open_store
from fairlead.storage.directory import DirectoryStore
from fairlead.storage.folders import remove

STATE, CORRUPT = "state.json", "corrupt.json"
PREFIX, SUFFIX = "step-", ".safetensors"

# Metric: how long the training thread was kept by the checkpoint of a step.
BLOCKED = "checkpoint_blocked_seconds"
# Metric: seconds of training that no durable checkpoint has.
AGE = "checkpoint_age_seconds"
# Metric: State.skipped_steps.
SKIPPED = "skipped_steps"

Contents = dict[str, bytes]
"""The files of a checkpoint by the name of their part."""


class Best(Config):
    """The best validation so far."""

    step: int
    """Its step; the checkpoint of that step is kept."""
    metrics: dict[str, float]
    """Its validation metrics."""


class State(Config):
    """Where a run stands, but for its tensors."""

    format: int = 2
    """Version of this format."""
    step: int = 0
    """Steps done."""
    validated: bool = True
    """False when the step is due for a validation that was interrupted."""
    best: Best | None = None
    """None before the first validation."""
    validations_without_gain: int = 0
    """Validations since the best one."""
    stopped_early: bool = False
    """Whether patience ran out at this step."""
    seconds: float = 0.0
    """Wall time of training up to this step, restarts not counted."""
    micro_batch_tokens: int | None = None
    """What was found to fit when memory ran out; None while the setting does."""
    skipped_steps: int = 0
    """Steps done that left the weights as they were, because gradients overflowed float16."""
    points: list[tuple[str, int, float | None, float]] = Field(default_factory=list)
    """Metrics of steps done that the registry had not got yet: name, step, value (None for NaN) and time."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 by name of the part."""


class Found(NamedTuple):
    """A checkpoint that was read whole and is intact."""

    state: State
    contents: Contents


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, store: ObjectStore) -> None:
        """`store` is the run's own place; nobody else writes there."""
        self._store = store

    @property
    def url(self) -> str:
        """Address of the run's place."""
        return self._store.url

    def address(self, step: int) -> str:
        """Address of the checkpoint of `step`."""
        return f"{self.url}/{_folder(step)}"

    def steps(self) -> list[int]:
        """The steps that have a complete checkpoint, in order; whether it is intact, `read` says."""
        return sorted(self._steps())

    def write_note(self, name: str, value: dict[str, Any]) -> None:
        """Keep a JSON file beside the checkpoints."""
        self._store.put_bytes(name, _json(value))

    def read_note(self, name: str) -> dict[str, Any]:
        """What `write_note` kept; empty when there is none or it cannot be read."""
        try:
            found = json.loads(self._store.get_bytes(name))
        except (NotFound, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, state: State, contents: Mapping[str, memoryview | bytes]) -> None:
        """Write the checkpoint of `state.step`; it appears whole or not at all. Raises StorageError."""
        digests = {name: of_bytes(content) for name, content in contents.items()}
        state, written = state.model_copy(update={"files": digests}), self._written(state.step)
        # The same step again, after an interrupted validation, has the same tensors.
        if written is None or written.files != digests:
            self._store.delete(_key(state.step, STATE))
            for name, content in contents.items():
                self._store.put_bytes(_key(state.step, name + SUFFIX), content)
        self._store.put_bytes(_key(state.step, STATE), _json(state.to_dict()))

    def newest(self) -> Found | None:
        """The newest checkpoint that is intact, as is the best one that it names; None without any.

        Damaged checkpoints are named in the log and set aside: `state.json` becomes `corrupt.json`.
        Raises StorageError when the store cannot be read: then nothing is known to be damaged.
        """
        for step in reversed(self.steps()):
            try:
                found = self.read(step)
                if found.state.best and found.state.best.step != step:
                    self.read(found.state.best.step)
                return found
            except IntegrityError as error:
                self._set_aside(step, error)
        return None

    def read(self, step: int) -> Found:
        """The checkpoint of `step`. Raises IntegrityError when a file is missing or differs from its digest."""
        where = self.address(step)
        state = self._written(step)
        if state is None:
            raise IntegrityError(f"{where}: its {STATE} is missing or damaged; an older one is used")
        contents = {}
        for name, digest in state.files.items():
            try:
                contents[name] = self._store.get_bytes(_key(step, name + SUFFIX))
            except NotFound as error:
                raise IntegrityError(f"{where}: its {name}{SUFFIX} is missing; an older one is used") from error
            if of_bytes(contents[name]) != digest:
                raise IntegrityError(f"{where}/{name}{SUFFIX}: it differs from its digest; an older one is used")
        return Found(state, contents)

    def prune(self, keep: int) -> None:
        """Remove all checkpoints but the newest `keep` and the best ones that these name."""
        complete = self.steps()
        kept = set(complete[-keep:])
        for step in complete[-keep:]:
            state = self._written(step)
            kept |= {state.best.step} if state and state.best else set()
        for step in self._steps(STATE, SUFFIX) - kept - self._steps(CORRUPT):
            remove(self._store, f"{_folder(step)}/", first=STATE)

    def remove_all(self) -> None:
        """Remove every checkpoint of a finished run, those set aside included."""
        for step in self._steps(""):
            remove(self._store, f"{_folder(step)}/", first=STATE)

    def _steps(self, *ends: str) -> set[int]:
        """The steps that have an object whose key ends so; by default those of complete checkpoints."""
        keys = [stat.key for stat in self._store.list(PREFIX) if stat.key.endswith(ends or STATE)]
        steps = [key.partition("/")[0].removeprefix(PREFIX) for key in keys]
        return {int(step) for step in steps if step.isdigit()}

    def _written(self, step: int) -> State | None:
        try:
            return State.model_validate(json.loads(self._store.get_bytes(_key(step, STATE))))
        except (NotFound, ValueError, ValidationError):
            return None

    def _set_aside(self, step: int, error: IntegrityError) -> None:
        self._store.put_bytes(_key(step, CORRUPT), self._store.get_bytes(_key(step, STATE)))
        self._store.delete(_key(step, STATE))
        print(f"warning: {error}; the damaged one is set aside ({_key(step, CORRUPT)})", file=sys.stderr, flush=True)


def open_checkpoints(url: str) -> Checkpoints:
    """The checkpoints at `url`: a folder or an `s3://` prefix, of one run and used by this process alone."""
    store = open_store(url)
    if isinstance(store, DirectoryStore):
        # What a killed run left half-written can be as large as a checkpoint.
        store.remove_unfinished()
    return Checkpoints(store)


def _folder(step: int) -> str:
    return f"{PREFIX}{step:08d}"


def _key(step: int, name: str) -> str:
    return f"{_folder(step)}/{name}"


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
