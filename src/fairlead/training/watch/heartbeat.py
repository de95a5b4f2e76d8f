"""A sign of life of each rank: a small file in shared memory that the launcher reads (fairlead.training.watch.hang).

Two times are kept apart. `alive` is written every second by a thread: it stops when the process is
stopped, or when something holds the interpreter's lock. `progressed` is written by the training thread
at each micro-batch and phase: it stops when that thread hangs. Both cost a microsecond.
"""

import contextlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

# Folder of the files, set by the launcher for its ranks.
FOLDER_ENV = "FAIRLEAD_HEARTBEATS"
SECONDS_BETWEEN_BEATS = 1.0

# pid; alive; progressed (both of the machine's monotonic clock, in seconds); step; phase; number of marks
RECORD = struct.Struct("<qddqqq")
_ALIVE, _PROGRESS = struct.Struct("<d"), struct.Struct("<dqqq")


class Phase(IntEnum):
    """What the training thread of a rank does."""

    STARTING = 0
    """Loads, builds, compiles: may take long."""
    COMPUTING = 1
    """A step."""
    VALIDATING = 2
    """A validation."""
    SAVING = 3
    """Writes a checkpoint or the model: may take long."""
    WAITING = 4
    """Has done its share and waits for the other ranks."""
    DONE = 5
    """Is about to end."""


@dataclass(frozen=True)
class Beat:
    """What a rank has last said."""

    pid: int
    alive: float
    progressed: float
    step: int
    phase: Phase
    marks: int


class Heartbeat:
    """This rank's file."""

    def __init__(self, path: Path) -> None:
        with path.open("wb") as file:
            file.write(bytes(RECORD.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), RECORD.size)
        self.step, self.phase, self._marks = 0, Phase.STARTING, 0
        self._first_step: int | None = None
        now = time.monotonic()
        RECORD.pack_into(self._memory, 0, os.getpid(), now, now, 0, Phase.STARTING, 0)
        threading.Thread(target=self._beat_on, daemon=True, name="heartbeat").start()

    def mark(self, phase: Phase, step: int | None = None) -> None:
        """Say that the training thread has come to `phase`, of `step` when it is another one."""
        self.phase, self._marks = phase, self._marks + 1
        if step is not None:
            self.step, self._first_step = step, self._first_step or step
        # The first step of a process compiles and chooses kernels.
        shown = Phase.STARTING if phase == Phase.COMPUTING and self.step == self._first_step else phase
        _PROGRESS.pack_into(self._memory, 16, time.monotonic(), self.step, shown, self._marks)

    def _beat_on(self) -> None:
        while True:
            time.sleep(SECONDS_BETWEEN_BEATS)
            _ALIVE.pack_into(self._memory, 8, time.monotonic())


def read(path: Path) -> Beat | None:
    """What the rank of this file has last said; None before it has said anything."""
    try:
        pid, alive, progressed, step, phase, marks = RECORD.unpack(path.read_bytes())
        return Beat(pid, alive, progressed, step, Phase(phase), marks) if pid else None
    except (OSError, struct.error, ValueError):
        return None


def path_of(folder: Path, local_rank: int) -> Path:
    """The file of one rank of this machine."""
    return folder / f"rank-{local_rank}"


_own: Heartbeat | None = None


def begin() -> None:
    """Begin this process's heartbeat, when a launcher asked for it; `mark` does nothing without."""
    global _own
    folder = os.environ.get(FOLDER_ENV)
    if folder:
        _own = Heartbeat(path_of(Path(folder), int(os.environ["LOCAL_RANK"])))


def mark(phase: Phase, step: int | None = None) -> None:
    """Say what this rank's training thread begins to do."""
    if _own:
        _own.mark(phase, step)


@contextlib.contextmanager
def marked(phase: Phase) -> Iterator[None]:
    """Within the block this rank is in `phase`, and then again in the one before."""
    before = _own.phase if _own else phase
    mark(phase)
    yield
    mark(before)
