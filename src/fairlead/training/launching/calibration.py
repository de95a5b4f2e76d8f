"""How many threads train fastest, and whether bfloat16 pays: measured, for neither follows from what a machine says.

A virtual machine may show two cores that are threads of one core and share its multipliers; then two threads gain
nothing, and beside neighbours they wait for each other. And a processor may have instructions for bfloat16 that are
slower than its float32: a Xeon whose AMX is hidden from the machine multiplies bfloat16 at half the rate.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional as F

# The feed-forward part of a small encoder over ten texts: 3.6 GFLOP forward and backward, 25 ms of a core.
ROWS, WIDTH, INNER = 512, 384, 1536
# Each candidate is measured so often, in turns, and its best time counts: neighbours only ever slow it down.
ROUNDS = 5
# More threads must be so much faster to be worth their waiting for each other.
GAIN_OF_THREADS = 1.1
# Square matrices that no cache level distorts much, 1 GFLOP.
MATMUL_SIZE = 768


def fastest_threads(most: int, dtype: torch.dtype) -> int:
    """The fewest of 1, 2, 4, ... `most` threads that are within a tenth of the fastest at a part of a training step."""
    if most == 1:
        return 1
    candidates = [1 << power for power in range(most.bit_length()) if 1 << power < most] + [most]
    with _threads_restored():
        times = _best([_with_threads(n, dtype) for n in candidates], time.perf_counter)
    seconds = dict(zip(candidates, times, strict=True))
    chosen = min(n for n in candidates if seconds[n] <= GAIN_OF_THREADS * min(seconds.values()))
    told = ", ".join(f"{n}: {1000 * took:.0f} ms" for n, took in seconds.items())
    print(f"train: {chosen} of at most {most} threads a process, as measured ({told})", flush=True)
    return chosen


def bfloat16_gain() -> float:
    """How many times as fast as float32 one thread multiplies matrices of bfloat16."""
    matrix = torch.ones(MATMUL_SIZE, MATMUL_SIZE)
    half = matrix.bfloat16()
    with _threads_restored():
        torch.set_num_threads(1)
        # Processor time: a neighbour who takes the core away does not count.
        single, halved = _best([lambda: matrix @ matrix, lambda: half @ half], time.thread_time)
    return single / halved


def _best(works: list[Callable[[], object]], clock: Callable[[], float]) -> list[float]:
    """The best time of each over ROUNDS turns, after one that warms up."""
    found = [float("inf")] * len(works)
    for turn in range(ROUNDS + 1):
        for index, work in enumerate(works):
            began = clock()
            work()
            if turn:
                found[index] = min(found[index], clock() - began)
    return found


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
