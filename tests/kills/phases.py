"""What each rank is doing, in a small file that all processes map: it outlives any of them.

The functions of the worker are called as they are; each is wrapped so that it notes its beginning and end.
"""

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = ("start", "step", "evaluation", "checkpoint", "finish")
# Numbers of a rank: the phase of its training thread, whether a checkpoint is being written, the last step done,
# and how often each phase was entered.
NUMBERS = 3 + len(PHASES)
SIZE = 4


class Board:
    """The numbers of every rank; each is written by one thread of one process."""

    def __init__(self, path: Path, world_size: int) -> None:
        if not path.exists():
            path.write_bytes(bytes(SIZE * NUMBERS * world_size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def get(self, rank: int, index: int) -> int:
        return int(struct.unpack_from("<I", self._memory, SIZE * (rank * NUMBERS + index))[0])

    def set(self, rank: int, index: int, value: int) -> None:
        struct.pack_into("<I", self._memory, SIZE * (rank * NUMBERS + index), value)

    def phase(self, rank: int) -> str:
        """What the rank does now; a checkpoint that is being written hides what training does beside it."""
        return "checkpoint" if self.get(rank, 1) else PHASES[self.get(rank, 0)]

    def step(self, rank: int) -> int:
        """The last step that the rank has done in this life, 0 before."""
        return self.get(rank, 2)

    def times(self, rank: int, phase: str) -> int:
        """How often the rank has begun that phase in this life."""
        return self.get(rank, 3 + PHASES.index(phase))

    def clear(self) -> None:
        self._memory[:] = bytes(len(self._memory))


def note_phases(board: Board, rank: int) -> None:
    """In a rank: have the worker's functions note what they do."""
    from fairlead.training import loop
    from fairlead.training.checkpoints.format import Checkpoints
    from fairlead.training.launching import worker

    def enter(phase: str) -> None:
        index = 3 + PHASES.index(phase)
        board.set(rank, index, board.get(rank, index) + 1)

    def noting(function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            before = board.get(rank, 0)
            board.set(rank, 0, PHASES.index(phase))
            enter(phase)
            result = function(*arguments, **named)
            board.set(rank, 0, before)
            if phase == "step":
                board.set(rank, 2, arguments[1])
            return result

        return call

    def writing(function: Callable[..., Any], counts: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            board.set(rank, 1, 1)
            if counts:
                enter("checkpoint")
            try:
                return function(*arguments, **named)
            finally:
                board.set(rank, 1, 0)

        return call

    loop.Loop._step = noting(loop.Loop._step, "step")  # type: ignore[method-assign]
    loop.validate = noting(loop.validate, "evaluation")
    worker.write_finished = noting(worker.write_finished, "finish")
    Checkpoints.write = writing(Checkpoints.write, True)  # type: ignore[method-assign]
    Checkpoints.prune = writing(Checkpoints.prune, False)  # type: ignore[method-assign]
