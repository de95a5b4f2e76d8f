"""A child process that never outlives its parent, and a file lock: what one local run holds while it runs."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from fairlead.errors import Conflict

# A killed run lets go of its lock when its children are gone, well within this time.
SECONDS_OF_DYING = 2.0
# A little more than a rank of training has to write its checkpoint.
SECONDS_OF_STOPPING = 29.0


@contextmanager
def only_one(lock: Path, what: str) -> Iterator[int]:
    """Hold `lock`, and give its file descriptor. Raises Conflict when another process holds it.

    The kernel releases it when the last process with the descriptor ends, however it ends.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        _take(file, lock, what)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def _take(file: IO[str], lock: Path, what: str) -> None:
    deadline = time.monotonic() + SECONDS_OF_DYING
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise Conflict(
                    f"{what}: process {holder} is running it ({lock}); wait for it, or set another FAIRLEAD_HOME"
                ) from error
        time.sleep(0.05)


@contextmanager
def child(command: list[str], log: Path, environment: dict[str, str], lock: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command`, its output in `log`; at the end of the block it and all it started are gone.

    The child's standard input is a pipe that is never written: its end of file tells the child that
    this process is gone, even by SIGKILL (see `die_with_parent`). The child keeps the lock until then.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=[lock],
        )
    try:
        yield process
    except (KeyboardInterrupt, SystemExit):
        _ask_to_stop(process)
        raise
    finally:
        end_tree(process.pid)
        # Stages whose parent was killed alone have left the tree, but not the group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin:
            process.stdin.close()


def _ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    """Tell those that do the work, at the ends of the tree, to stop, and wait: training writes its checkpoint."""
    with suppress(psutil.Error):
        tree = psutil.Process(process.pid).children(recursive=True)
        for worker in [below for below in tree if not below.children()]:
            worker.terminate()
        print("stopping: training keeps its state first; interrupt again to end at once", file=sys.stderr, flush=True)
    try:
        process.wait(SECONDS_OF_STOPPING)
        kept = "what it had done"
    except subprocess.TimeoutExpired:
        kept = "its last checkpoint"
    print(f"stopped: the same command goes on from {kept}", file=sys.stderr, flush=True)


def end_tree(pid: int) -> None:
    """Kill a process and everything below it, also what has left its process group (torch's ranks do)."""
    try:
        tree = [psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return
    # Stopped top down first, so that none can start another while the tree is being listed.
    for process in tree:
        with suppress(psutil.Error):
            process.suspend()
            tree += [below for below in process.children() if below not in tree]
    for process in reversed(tree):
        with suppress(psutil.Error):
            process.kill()


def die_with_parent() -> None:
    """In a child: end this process and everything below it as soon as the parent is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        for below in psutil.Process().children():
            end_tree(below.pid)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
