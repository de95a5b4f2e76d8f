"""Starts ranks of the real worker without the seconds that importing torch takes: `python -m tests.kills.nursery`.

This process imports everything once, and forks a launcher for each request that it reads (a JSON line);
the launcher forks the ranks, hands signals on to them as the train stage does, and ends when they do.
It answers with the process ids, and with the launcher's exit code when every process is gone.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

PR_SET_CHILD_SUBREAPER = 36
# What the others have to end by themselves when one rank failed.
SECONDS_OF_GRACE = 10.0
NAME = "tests.kills.nursery"


class Nursery:
    """The process, seen from a test."""

    def __init__(self, log: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", NAME, str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parent.parent.parent,
        )

    def launch(self, job: Path, world_size: int, board: Path, environment: dict[str, str]) -> tuple[int, list[int]]:
        """Start a launcher and its ranks; their process ids."""
        self._ask({"job": str(job), "world_size": world_size, "board": str(board), "environment": environment})
        launcher, *ranks = self._answer()
        return launcher, ranks

    def wait(self) -> int:
        """Wait until the launcher and all ranks are gone; the launcher's exit code, negative for a signal."""
        return int(self._answer()[0])

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._process.stdin
        print(json.dumps(request), file=self._process.stdin, flush=True)

    def _answer(self) -> list[int]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the nursery has ended"
        return [int(number) for number in line.split()]


def main() -> None:
    """Serve requests until the input ends."""
    _import_all()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    output = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        launcher = os.fork()
        if launcher == 0:
            os.dup2(output, 1)
            os.dup2(output, 2)
            _launch(request, writer)
        os.close(writer)
        with os.fdopen(reader) as pids:
            print(launcher, pids.readline().strip(), flush=True)
        print(_wait_for_all(launcher), flush=True)


def _import_all() -> None:
    """Import, and do once, what a rank would otherwise import; no thread may be running when it forks."""
    import torch

    from fairlead.training.config import ModelConfig, TrainConfig
    from fairlead.training.launching import worker
    from fairlead.training.models.building import build_model
    from fairlead.training.updates.optimizers import build_optimizer
    from tests.training.corpus import Corpus

    assert worker
    torch.set_num_threads(1)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        model = build_model(ModelConfig(depth=1), Corpus(Path(folder)).manifest)
        build_optimizer(model, TrainConfig()).zero_grad()


def _wait_for_all(launcher: int) -> int:
    code = 0
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.wait()
            if pid == launcher:
                code = os.waitstatus_to_exitcode(status)
    return code


def _launch(request: dict[str, Any], pids: int) -> NoReturn:
    """In the launcher: fork the ranks and wait for them."""
    from fairlead.training.launching.stopping import handing_on_signals

    os.environ.update(request["environment"] | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())})
    ranks = []
    for rank in range(request["world_size"]):
        pid = os.fork()
        if pid == 0:
            os.close(pids)
            _be_rank(request, rank)
        ranks.append(pid)

    def supervise() -> None:
        os.write(pids, (" ".join(map(str, ranks)) + "\n").encode())
        os.close(pids)
        codes.extend(_supervise(ranks))

    codes: list[int] = []
    handing_on_signals(supervise, NAME)
    os._exit(0 if codes == [0] * len(ranks) else 1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _supervise(ranks: list[int]) -> list[int]:
    """Wait for all ranks; when one fails the others are told to stop, and later killed, as torch's launcher does."""
    codes: dict[int, int] = {}
    deadline = None
    while len(codes) < len(ranks):
        for pid in [pid for pid in ranks if pid not in codes]:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if deadline is None and any(codes.values()):
            deadline = time.monotonic() + SECONDS_OF_GRACE
            _signal([pid for pid in ranks if pid not in codes], signal.SIGTERM)
        if deadline and time.monotonic() > deadline:
            _signal([pid for pid in ranks if pid not in codes], signal.SIGKILL)
        time.sleep(0.002)
    return [codes[pid] for pid in ranks]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def _be_rank(request: dict[str, Any], rank: int) -> NoReturn:
    from fairlead.training.launching import worker
    from tests.kills.phases import Board, note_phases

    world_size = request["world_size"]
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    note_phases(Board(Path(request["board"]), world_size), rank)
    worker.main([request["job"]])


if __name__ == "__main__":
    main()
