"""How many processes and threads train fastest, and whether bfloat16 pays: measured, for a machine does not say.

A virtual machine may show two cores that are threads of one core and share its multipliers; then two threads gain
nothing, and beside neighbours they wait for each other. And a processor may have instructions for bfloat16 that are
slower than its float32: a Xeon whose AMX is hidden from the machine multiplies bfloat16 at half the rate.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional as F

# The feed-forward part of a small encoder over ten texts: 3.6 GFLOP forward and backward, 25 ms of a core.
ROWS, WIDTH, INNER = 512, 384, 1536
OPERATIONS = 6 * ROWS * 2 * WIDTH * INNER
# Each candidate is measured so often, in turns, and its best time counts: neighbours only ever slow it down.
ROUNDS = 5
# More threads, or processes, must be so much faster to be worth their waiting for each other.
LEAST_GAIN = 1.1
# Square matrices that no cache level distorts much, 1 GFLOP.
MATMUL_SIZE = 768


@dataclass(frozen=True)
class Cores:
    """How the cores of a machine are used."""

    processes: int
    threads: int
    """Of each process."""


def fastest_threads(most: int, dtype: torch.dtype) -> int:
    """The fewest of 1, 2, 4, ... `most` threads that are within a tenth of the fastest at a part of a training step."""
    if most == 1:
        return 1
    speeds = measured([Cores(1, threads) for threads in doublings(most)], dtype)
    chosen = fewest(speeds)
    told = ", ".join(f"{cores.threads}: {1000 * OPERATIONS / speed:.0f} ms" for cores, speed in speeds.items())
    print(f"train: {chosen.threads} of at most {most} threads a process, as measured ({told})", flush=True)
    return chosen.threads


def fewest(speeds: dict[Cores, float]) -> Cores:
    """The fewest processes and threads whose speed is within a tenth of the greatest."""
    fast = [cores for cores, speed in speeds.items() if speed * LEAST_GAIN >= max(speeds.values())]
    return min(fast, key=lambda cores: (cores.processes, cores.threads))


def doublings(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return [1 << power for power in range(most.bit_length()) if 1 << power < most] + [most]


def measured(candidates: Sequence[Cores], dtype: torch.dtype) -> dict[Cores, float]:
    """Floating-point operations a second of all processes together, at a part of a training step.

    Processes are stood in for by threads of this one, each with a team of its own for its products: what is seen is
    what the cores do at the same time, not what starting and exchanging cost. Of one thread processor time counts,
    which grows where cores share their multipliers, and not where a neighbour takes a core away for a while; threads
    that wait for each other are timed by the clock.
    """
    with _threads_restored(), ExitStack() as stack:
        seconds = _best([_at_once(cores, dtype, stack) for cores in candidates])
    return {c: c.processes * OPERATIONS / took for c, took in zip(candidates, seconds, strict=True)}


def bfloat16_gain() -> float:
    """How many times as fast as float32 one thread multiplies matrices of bfloat16."""
    matrix = torch.ones(MATMUL_SIZE, MATMUL_SIZE)
    half = matrix.bfloat16()
    with _threads_restored():
        torch.set_num_threads(1)
        # Processor time: a neighbour who takes the core away does not count.
        works = (lambda: matrix @ matrix, lambda: half @ half)
        single, halved = _best([_timed(work, time.thread_time) for work in works])
    return single / halved


def _best(works: Sequence[Callable[[], float]]) -> list[float]:
    """The least seconds that each says it took over ROUNDS turns, after one that warms up."""
    found = [float("inf")] * len(works)
    for turn in range(ROUNDS + 1):
        for index, work in enumerate(works):
            seconds = work()
            if turn:
                found[index] = min(found[index], seconds)
    return found


def _at_once(cores: Cores, dtype: torch.dtype, stack: ExitStack) -> Callable[[], float]:
    """The work of every process at the same time; gives the seconds of the slowest."""
    clock = time.thread_time if cores.threads == 1 else time.perf_counter
    works = [_timed(_with_threads(cores.threads, dtype), clock) for _ in range(cores.processes)]
    if len(works) == 1:
        return works[0]
    pool = stack.enter_context(ThreadPoolExecutor(len(works)))
    return lambda: max(done.result() for done in [pool.submit(work) for work in works])


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> Callable[[], float]:
    """The work, giving its seconds by a clock."""

    def timed() -> float:
        began = clock()
        work()
        return clock() - began

    return timed


def _with_threads(threads: int, dtype: torch.dtype) -> Callable[[], object]:
    x = torch.ones(ROWS, WIDTH, dtype=dtype, requires_grad=True)
    up = torch.ones(INNER, WIDTH, dtype=dtype, requires_grad=True)
    down = torch.ones(WIDTH, INNER, dtype=dtype, requires_grad=True)

    def work() -> None:
        torch.set_num_threads(threads)
        y = F.layer_norm(x + F.linear(F.gelu(F.linear(x, up)), down), (WIDTH,))
        torch.autograd.grad(y.sum(), (x, up, down))

    return work


@contextmanager
def _threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
