"""Restarts, swaps and kills under load, counted.

    python -m tests.serving.chaos.run --restarts 100 --swaps 100 --kills 20 --seed 0

No request that a server took up may fail; a connection that ends before a byte of an answer, when its worker is
killed, is asked again elsewhere.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.serving.chaos.clients import Outcome
from tests.serving.chaos.restarts import lost, restart
from tests.serving.chaos.swaps import kill_workers, swap
from tests.tiny import make_version


def main() -> int:
    """Run and say what was seen; 1 when an accepted request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed = []
    if options.restarts:
        failed += _restarts(options.restarts, options.seed)
    if options.swaps:
        failed += _swaps(options.swaps, options.seed)
    if options.kills:
        failed += _kills(options.kills, options.seed)
    print("\n".join(failed[:20]), file=sys.stderr)
    return int(bool(failed))


def _restarts(number: int, seed: int) -> list[str]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        version = make_version(Path(folder) / "version", number=3)
        outcome, servers = restart(version, Path(folder), number, seed)
        return _say(f"{number} restarts by SIGTERM", outcome, lost(outcome, servers), started)


def _swaps(number: int, seed: int) -> list[str]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome, server = swap(Path(folder), number, seed)
        return _say(f"{number} swaps of the version", outcome, lost(outcome, [server]), started)


def _kills(number: int, seed: int) -> list[str]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        version = make_version(Path(folder) / "version", number=3)
        return _say(f"{number} SIGKILLs of a worker", kill_workers(version, Path(folder), number, seed), [], started)


def _say(what: str, outcome: Outcome, missed: list[str], started: float) -> list[str]:
    failed = [*outcome.failed, *missed, *outcome.contradictions()]
    print(
        f"{what} under load: {len(outcome.answered)} requests answered, {outcome.refused} refused, "
        f"{outcome.unaccepted} asked again, {len(failed)} failed. It took {time.monotonic() - started:.0f} s.",
        flush=True,
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
