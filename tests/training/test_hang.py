"""Which rank hangs, told from what the ranks last said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.training.watch import heartbeat
from fairlead.training.watch.hang import find
from fairlead.training.watch.heartbeat import Beat, Heartbeat, Phase

NOW, TIMEOUT = 1000.0, 10.0


def beat(phase: Phase, progressed: float = 0.0, alive: float = 0.0, step: int = 7, marks: int = 1) -> Beat:
    """What a rank said; times are seconds ago."""
    return Beat(1, NOW - alive, NOW - progressed, step, phase, marks)


def named(*beats: Beat, all_here: bool = True) -> int | None:
    hang = find(dict(enumerate(beats)), NOW, TIMEOUT, all_here)
    return None if hang is None else hang.rank


def test_a_stopped_process_is_named_and_not_the_one_that_waits_for_it() -> None:
    waiting = beat(Phase.WAITING, progressed=11)
    for phase in (Phase.STARTING, Phase.COMPUTING, Phase.SAVING, Phase.WAITING):
        assert named(waiting, beat(phase, 11, alive=11)) == 1
    assert named(waiting, beat(Phase.COMPUTING, 9, alive=9)) is None


@pytest.mark.parametrize("phase", [Phase.COMPUTING, Phase.VALIDATING])
def test_a_thread_without_progress_is_named(phase: Phase) -> None:
    assert named(beat(Phase.WAITING, 500), beat(phase, 11)) == 1
    assert named(beat(Phase.WAITING, 500), beat(phase, 9)) is None


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.SAVING])
def test_what_may_take_long_has_six_times_as_long(phase: Phase) -> None:
    assert named(beat(phase, 59), beat(Phase.WAITING, 59)) is None
    assert named(beat(phase, 61), beat(Phase.WAITING, 61)) == 0


def test_of_several_the_one_that_came_least_far_is_named() -> None:
    ahead, behind = beat(Phase.COMPUTING, 11, marks=5), beat(Phase.COMPUTING, 11, marks=4)
    assert named(ahead, behind) == 1 and named(behind, ahead) == 0
    assert named(beat(Phase.COMPUTING, 11, step=8, marks=1), beat(Phase.COMPUTING, 11, step=7, marks=9)) == 1


def test_who_waits_is_blamed_only_when_all_do_and_all_are_here() -> None:
    waiting = [beat(Phase.WAITING, 11, marks=4), beat(Phase.WAITING, 11, marks=3)]
    assert named(*waiting) == 1
    assert named(*waiting, all_here=False) is None


def test_who_has_ended_is_left_alone() -> None:
    assert named(beat(Phase.DONE, 500, alive=500), beat(Phase.SAVING, 5)) is None


def test_a_heartbeat_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = heartbeat.path_of(tmp_path, 3)
    assert heartbeat.read(path) is None
    own = Heartbeat(path)
    own.mark(Phase.COMPUTING, 41)
    first = heartbeat.read(path)
    assert first is not None and (first.pid, first.step, first.phase) == (os.getpid(), 41, Phase.STARTING)
    own.mark(Phase.COMPUTING, 42)
    then = heartbeat.read(path)
    assert then is not None and (then.step, then.phase, then.marks) == (42, Phase.COMPUTING, first.marks + 1)
    assert then.progressed >= first.progressed


def test_without_a_launcher_nothing_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from fairlead.training.watch import heartbeat as h; h.begin(); h.mark(h.Phase.SAVING); print(h._own)"
    monkeypatch.delenv(heartbeat.FOLDER_ENV, raising=False)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "None\n"
