"""Checkpoints written beside training: copied while the next gradient is computed, which changes no weight.

    training   step 200 | gradient of step 201 | update | step 202 | ...
    writer              | copy |  digest, write, publish, prune  |

The update waits for the copy. What a forward pass may change, what is sharded and what lies on a GPU is copied at once.
At most one is being written. One that falls due meanwhile is put off to the first step after, never
dropped; one that must not be put off (at a validation, when told to stop) waits. A checkpoint that
cannot be written is warned of and tried again every few seconds while training goes on, until the
next one that must be written comes: then there is one last try, and its failure ends the run.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import torch

from fairlead.errors import FairleadError, UserError
from fairlead.training.checkpoints.format import Checkpoints, State
from fairlead.training.checkpoints.parts import Part
from fairlead.training.checkpoints.tensor_file import TensorFile, Tensors
from fairlead.training.updates.shards import is_sharded
from fairlead.training.watch import heartbeat
from fairlead.training.watch.heartbeat import Phase

# Often enough to lose little when a store comes back, rarely enough to leave a full disk alone.
SECONDS_BETWEEN_TRIES = 5.0


class Saver:
    """Writes the checkpoints of a run; on leaving its block the last one is durable, or its failure is raised."""

    def __init__(self, checkpoints: Checkpoints, parts: Mapping[str, Part], keep: int) -> None:
        """`keep` checkpoints are kept besides the best ones that they name."""
        self._checkpoints, self._parts, self._keep = checkpoints, parts, keep
        self._files: dict[str, TensorFile] = {}
        self._thread: threading.Thread | None = None
        self._last_try = threading.Event()
        self._failure: BaseException | None = None
        self._put_off = False
        # Whether the weights may change.
        self._copied = threading.Event()
        self._copied.set()
        # What was done before this attempt is durable.
        self._durable_at = self._begun_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            self.wait()
        except (FairleadError, OSError):
            # It was warned of; what ended the run comes first.
            if kind is None:
                raise

    @property
    def age(self) -> float:
        """Seconds of training that a kill would lose: since the last checkpoint that is durable."""
        return time.monotonic() - self._durable_at

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written, or the memory for the first one is being made."""
        return self._thread is not None and self._thread.is_alive()

    def prepare(self) -> None:
        """Make room in memory for a copy of all parts, beside training; call it after the first step."""
        if not self._files:
            tensors = {name: part.tensors() for name, part in self._parts.items()}
            self._begin(lambda: self._fit(tensors))

    def is_due(self, due: bool) -> bool:
        """Whether to save now, when this step is `due` or one before was put off. Raises a failure (see `wait`)."""
        self._check()
        self._put_off = self._put_off or due
        return self._put_off and not self.is_busy

    def save(self, state: State) -> float:
        """Begin to copy and write all parts, and give the seconds that it took the caller.

        Waits for the checkpoint that is being written, and raises its failure. `wait_for_copy` comes before the next
        update of the weights.
        """
        started, self._put_off = time.monotonic(), False
        self.wait()
        self._begun_at = time.monotonic()
        tensors = {name: part.tensors() for name, part in self._parts.items()}
        self._fit(tensors)
        steady = {name: _steady(tensors[name], part.passing()) for name, part in self._parts.items()}
        for name, file in self._files.items():
            file.fill({key: tensor for key, tensor in tensors[name].items() if key not in steady[name]})
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._copied.clear()
        self._begin(lambda: self._copy_and_write(state, steady))
        return time.monotonic() - started

    def wait_for_copy(self) -> float:
        """Wait until the weights may change, and give the seconds that it took."""
        started = time.monotonic()
        self._copied.wait()
        return time.monotonic() - started

    def wait(self) -> float:
        """Wait until no checkpoint is being written, and give the seconds that it took.

        Raises what kept the last one from being written; a mistake of the user is raised without another try.
        """
        started = time.monotonic()
        if self._thread is not None:
            self._last_try.set()
            # It may take long, and is no hang.
            with heartbeat.marked(Phase.SAVING):
                self._thread.join()
            self._last_try.clear()
        self._check()
        return time.monotonic() - started

    def _check(self) -> None:
        # A writer that ends in between has taken its failure back.
        if self.is_busy:
            return
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _begin(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, daemon=True, name="checkpoint")
        self._thread.start()

    def _fit(self, tensors: Mapping[str, Tensors]) -> None:
        for name in tensors:
            if name not in self._files or not self._files[name].fits(tensors[name]):
                self._files[name] = TensorFile(tensors[name], pinned=torch.cuda.is_available())

    def _copy_and_write(self, state: State, steady: Mapping[str, Tensors]) -> None:
        try:
            for name, file in self._files.items():
                file.fill(steady[name])
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._copied.set()
        self._write(state)

    def _write(self, state: State) -> None:
        """In the writer's thread: write until it is done or given up."""
        contents = {name: file.content for name, file in self._files.items()}
        warned = False
        while True:
            last = self._last_try.is_set()
            try:
                self._checkpoints.write(state, contents)
                self._durable_at = self._begun_at
                self._checkpoints.prune(self._keep)
                self._failure = None
                return
            except BaseException as error:
                self._failure = error
                passing = isinstance(error, FairleadError | OSError) and not isinstance(error, UserError)
            if last or not passing:
                return
            if not warned:
                print(f"warning: {_sentence(state, self._failure)}", file=sys.stderr, flush=True)
            warned = True
            self._last_try.wait(SECONDS_BETWEEN_TRIES)


def _steady(tensors: Tensors, passing: frozenset[str]) -> dict[str, torch.Tensor]:
    """Those that only an update changes and that another thread may copy."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name not in passing and tensor.device.type == "cpu" and not is_sharded(tensor)
    }


def _sentence(state: State, error: BaseException) -> str:
    return f"{error}; the checkpoint of step {state.step} is tried again while training goes on"
