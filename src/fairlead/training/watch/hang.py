"""Finds the rank that hangs, from the ranks' heartbeats, and ends it, so that the run ends and says why.

A rank hangs when its process has not run, or its training thread has come no further, for
`training.hang_timeout_seconds`; what may take long (starting, compiling, writing) has six times as long. Ranks
that wait for others are not blamed. It is named within that time and a few seconds.
"""

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fairlead.errors import TrainingError
from fairlead.training.watch import heartbeat
from fairlead.training.watch.heartbeat import Beat, Phase

LONG_FACTOR = 6
LONG_PHASES = (Phase.STARTING, Phase.SAVING)
SECONDS_BETWEEN_LOOKS = 1.0
# The watcher itself did not run for so long: the machine slept, and so did every rank.
SLEPT_SECONDS = 10.0
# A rank that is told to print its stacks needs no more.
SECONDS_TO_PRINT = 1.0
# The exchange's own limit is for what no launcher sees: a machine that is gone.
EXCHANGE_MARGIN_SECONDS = 60.0

DOING = {
    Phase.STARTING: "starting",
    Phase.COMPUTING: "computing",
    Phase.VALIDATING: "validating",
    Phase.SAVING: "writing a checkpoint",
    Phase.WAITING: "waiting for the other ranks",
}


def exchange_timeout(timeout: float) -> float:
    """Seconds that a rank waits for the others at most: longer than the longest phase of any of them."""
    return LONG_FACTOR * timeout + EXCHANGE_MARGIN_SECONDS


@dataclass(frozen=True)
class Hang:
    """A rank that hangs."""

    rank: int
    beat: Beat
    seconds: float
    frozen: bool

    def sentence(self) -> str:
        """Who, where, since when and what to do."""
        how = "its process does not run" if self.frozen else f"{DOING[self.beat.phase]} without progress"
        return (
            f"train: rank {self.rank} hangs at step {self.beat.step}: {how} for {self.seconds:.0f} s; see its "
            "machine and the log above, or raise training.hang_timeout_seconds, then run again to resume"
        )


def find(beats: Mapping[int, Beat], now: float, timeout: float, all_here: bool = True) -> Hang | None:
    """The rank that hangs, None when all is well. `beats` are those of the ranks that have not ended.

    `all_here` is False when there are ranks on other machines, for which those here may wait.
    """
    going = {rank: beat for rank, beat in beats.items() if beat.phase != Phase.DONE}
    frozen = [Hang(rank, beat, now - beat.alive, True) for rank, beat in going.items() if now - beat.alive > timeout]
    if frozen:
        return max(frozen, key=lambda hang: hang.seconds)
    # Those who wait are blamed only when all do: then the exchange itself hangs.
    busy = {rank: beat for rank, beat in going.items() if beat.phase != Phase.WAITING}
    if not busy and all_here:
        busy = going
    late = [
        Hang(rank, beat, now - beat.progressed, False)
        for rank, beat in busy.items()
        if now - beat.progressed > timeout * (LONG_FACTOR if beat.phase in LONG_PHASES else 1)
    ]
    return min(late, key=lambda hang: (hang.beat.step, hang.beat.marks), default=None)


class Watch:
    """Watches the ranks of this machine while the block runs; `verdict` is then the error that names one."""

    def __init__(self, processes: int, timeout: float, machine: int = 0, num_machines: int = 1) -> None:
        """`machine` says which of `num_machines` this is, each with as many `processes`."""
        self.verdict: TrainingError | None = None
        self._processes, self._timeout = processes, timeout
        self._first_rank, self._all_here = machine * processes, num_machines == 1
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="hang-watch")

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="fairlead-heartbeats-", dir=_in_memory())
        os.environ[heartbeat.FOLDER_ENV] = self._folder.name
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        os.environ.pop(heartbeat.FOLDER_ENV, None)
        self._folder.cleanup()

    def _watch(self) -> None:
        looked, last = time.monotonic(), None
        awake_since = looked
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            now = time.monotonic()
            if now - looked > SLEPT_SECONDS:
                awake_since = now
            looked = now
            rested = now - awake_since > self._timeout
            hang = find(self._beats(), now, self._timeout, self._all_here) if rested else None
            # Twice the same, so that one that was about to go on is left alone.
            if hang and last and (hang.rank, hang.beat.marks) == (last.rank, last.beat.marks):
                self._end(hang)
                break
            last = hang

    def _beats(self) -> dict[int, Beat]:
        folder, beats = Path(self._folder.name), {}
        for local_rank in range(self._processes):
            beat = heartbeat.read(heartbeat.path_of(folder, local_rank))
            if beat and _exists(beat.pid):
                beats[self._first_rank + local_rank] = beat
        return beats

    def _end(self, hang: Hang) -> None:
        """End the rank that hangs; the launcher then ends the others."""
        self.verdict = TrainingError(hang.sentence())
        print(f"warning: {self.verdict}", file=sys.stderr, flush=True)
        with contextlib.suppress(ProcessLookupError):
            if not hang.frozen:
                # Its stacks go to the log.
                os.kill(hang.beat.pid, signal.SIGUSR1)
                time.sleep(SECONDS_TO_PRINT)
            os.kill(hang.beat.pid, signal.SIGKILL)


def _exists(pid: int) -> bool:
    """Whether a process runs or is stopped; one that ended and was not waited for is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return not Path("/proc/self").exists()


def _in_memory() -> str | None:
    """Shared memory where there is some: a heartbeat must not hang with the disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
