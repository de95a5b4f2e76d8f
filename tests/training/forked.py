"""Ranks forked from one process that has imported what they need, which takes 8 seconds of a core.

    python -m tests.training.forked <module>

The process imports the module. For each line of JSON that it reads, [folder, number of ranks, further arguments], it
forks the ranks, which call the module's `rank(folder, rank, number, *arguments)`, and answers with their exit codes.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Ended:
    """How a rank ended: its exit code, what `rank` returned, and what it wrote."""

    code: int
    returned: Any
    output: str


class Forked:
    """The process, seen from a test."""

    def __init__(self, module: str) -> None:
        command = [sys.executable, "-m", "tests.training.forked", module]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )

    def run(self, folder: Path, ranks: int, *arguments: Any) -> list[Ended]:
        """Run so many ranks in an existing folder, and wait for all of them."""
        assert self._process.stdin and self._process.stdout
        print(json.dumps([str(folder), ranks, arguments]), file=self._process.stdin, flush=True)
        codes = json.loads(self._process.stdout.readline())
        return [Ended(code, *_left(folder, rank)) for rank, code in enumerate(codes)]

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _left(folder: Path, rank: int) -> tuple[Any, str]:
    returned = folder / f"returned-{rank}"
    return json.loads(returned.read_text()) if returned.exists() else None, (folder / f"output-{rank}").read_text()


def main(module: str) -> None:
    """Serve requests until the input ends."""
    rank = importlib.import_module(module).rank
    for line in sys.stdin:
        folder, ranks, arguments = json.loads(line)
        pids = [_fork(rank, Path(folder), number, ranks, arguments) for number in range(ranks)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(codes), flush=True)


def _fork(rank: Callable[..., Any], folder: Path, number: int, ranks: int, arguments: list[Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        (folder / f"returned-{number}").unlink(missing_ok=True)
        output = os.open(folder / f"output-{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        (folder / f"returned-{number}").write_text(json.dumps(rank(folder, number, ranks, *arguments)))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # Whatever happens, it must not go on with the parent's loop; gloo's threads are not waited for either.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
