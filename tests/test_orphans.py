"""What measures and trains ends with the process that asked for it, even when that one was killed with SIGKILL."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

CHILD = "import os, time; from fairlead import orphans; orphans.end_with_parent(); print(os.getpid(), flush=True); "
PARENT = (
    "import os, subprocess, sys; from fairlead import orphans; environment = {**os.environ, **orphans.environment()}; "
    "subprocess.run([sys.executable, '-c', sys.argv[1]], env=environment)"
)


@pytest.fixture
def gone() -> dict[str, str]:
    """The environment of a child whose parent has ended."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True)
    return {**os.environ, "FAIRLEAD_PARENT_PROCESS": ended.stdout.decode().strip()}


def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    command = [sys.executable, "-c", PARENT, CHILD + "time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        child.wait(60)


def test_a_parent_that_is_gone_before_the_child_asks_is_missed(gone: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD + "time.sleep(600)"], env=gone, timeout=60, check=False)
    assert done.returncode == 1


def test_a_child_of_nobody_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD + "time.sleep(0.7)"], check=False)
    assert done.returncode == 0


def test_the_process_that_loads_variants_ends_without_its_parent(gone: dict[str, str], tmp_path: Path) -> None:
    # A request that is waited for, and never comes.
    os.mkfifo(tmp_path / "request.json")
    command = [sys.executable, "-m", "fairlead.optimization.probe", str(tmp_path / "request.json")]
    assert subprocess.run(command, env=gone, timeout=120, check=False).returncode == 1
