"""Measures how fast a runner is here, and chooses calls at a time, threads of each, batches and waiting from it.

Every measurement is made between the batches of models that serve already. The cores are shared by as many calls as
there are, or by fewer of more threads each, which answer a lone text sooner, where those compute about as much.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from fairlead.inference.capacity import STATED_LENGTH, Capacity, Measurement
from fairlead.inference.config import ServingConfig
from fairlead.variants.contract import Runner

# Calls of twice the threads, half as many at a time, have to keep this share of the texts a second. A small encoder in
# 8 bits kept 0.55 on two cores, as threads that meet after each product wait for the one whose core the doors use.
KEEPS = 0.95
# A batch is large enough when its tokens/s are this share of the best seen.
ENOUGH = {"cpu": 0.93, "cuda": 0.95}
MOST_TOKENS = {"cpu": 4096, "cuda": 131_072}
# Texts of a batch at which threads are compared, at most, the share of the time that one comparison may take, and the
# batches of each call: enough that all run together for most of the time.
THREADS_TEXTS = 8
THREADS_SHARE = 0.05
TOGETHER = 3
SHORT_LENGTH = 16
# A call is repeated for so long, and so often at most; the fastest counts.
REPEAT_SECONDS = 0.05
REPEATS = 5
# Longer than callers that were answered together take to come back.
MOST_WAIT_SECONDS = 0.002

TokenIds = Sequence[Sequence[int]]
Call = Callable[[Callable[[], float]], float]


@dataclass
class Calibration:
    """The measurements of one runner."""

    runner: Runner
    longest: int
    """Tokens of a text at most."""
    vocabulary: int
    """Token ids are below this."""
    config: ServingConfig
    call: Call
    """Runs a function in the computing thread."""
    found: list[Measurement] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.runner.device

    def run(self, cores: int) -> Capacity:
        """Measure, within `calibration_seconds` and the time of one small batch."""
        calls, threads, slowdown = self._share_out(self.config.threads or cores)
        self._fill_table(threads, calls)
        table = self._alone(threads)
        call_seconds, token_seconds, square_seconds = fit(table)
        wait = self.config.wait_milliseconds
        return Capacity(
            device=self.device,
            threads=threads,
            batch_tokens=self.config.batch_tokens or enough_tokens(table, call_seconds, token_seconds, self.device),
            wait_seconds=wait / 1e3 if wait is not None else self._wait(call_seconds),
            longest=self.longest,
            call_seconds=call_seconds,
            token_seconds=token_seconds,
            square_seconds=square_seconds,
            measurements=tuple(self.found),
            seconds=time.perf_counter() - self.started,
            calls=calls,
            slowdown=slowdown,
        )

    def _alone(self, threads: int) -> list[Measurement]:
        """What was measured with nothing else running."""
        return [one for one in self.found if one.threads == threads and one.calls == 1]

    def _left(self) -> float:
        return self.config.calibration_seconds - (time.perf_counter() - self.started)

    def _share_out(self, cores: int) -> tuple[int, int, float]:
        """Calls at a time, threads of each, and how much longer a call takes while all run than alone."""
        if self.device != "cpu" or cores == 1:
            return 1, 1, 1.0
        length = min(STATED_LENGTH, self.longest)
        self._measure(1, length, 1, cores)
        # So many texts that comparing leaves time for the table.
        texts = int(THREADS_SHARE * self.config.calibration_seconds / self.found[0].seconds)
        texts = max(1, min(THREADS_TEXTS, texts))
        threads, seconds = 1, self._measure_together(texts, length, 1, cores)
        while 2 * threads <= cores and self._left() > 0:
            calls = cores // (2 * threads)
            more = self._measure_together(texts, length, 2 * threads, calls)
            if calls / more < KEEPS * (cores // threads) / seconds:
                break
            threads, seconds = 2 * threads, more
        calls = cores // threads
        alone = self._measure(texts, length, threads, calls)
        # More would mean that they had better run one after the other: something else took the cores meanwhile.
        return calls, threads, min(float(calls), max(1.0, seconds / alone))

    def _fill_table(self, threads: int, calls: int) -> None:
        known = {(one.texts, one.length) for one in self._alone(threads)}
        for texts, length in self._points():
            if (texts, length) in known:
                continue
            # Two points are what a line needs.
            if len(known) >= 2 and self._expected(texts, length, threads) > self._left():
                continue
            known.add((texts, length))
            self._measure(texts, length, threads, calls)

    def _points(self) -> Iterator[tuple[int, int]]:
        """Of the table, the cheap ones first."""
        lengths = sorted({min(length, self.longest) for length in (SHORT_LENGTH, STATED_LENGTH, self.longest)})
        sizes = [2**power for power in range(0, 18)]
        points = [(n, length) for length in lengths for n in sizes if n * length <= MOST_TOKENS[self.device] or n == 1]
        yield from sorted(points, key=lambda point: point[0] * point[1])

    def _expected(self, texts: int, length: int, threads: int) -> float:
        """Seconds that a point will take with its warm-up, from the largest measured."""
        last = max(self._alone(threads), key=lambda one: one.texts * one.length)
        return 2 * last.seconds * texts * length / (last.texts * last.length)

    def _measure(self, texts: int, length: int, threads: int, calls: int) -> float:
        """Seconds of one call alone; the runner is made ready for `calls`."""
        return self._record(Measurement(texts, length, threads, 0.0), partial(seconds_of, threads=threads, calls=calls))

    def _measure_together(self, texts: int, length: int, threads: int, calls: int) -> float:
        """Seconds of each of `calls` that run at the same time."""
        measure = partial(seconds_together, threads=threads, calls=calls)
        return self._record(Measurement(texts, length, threads, 0.0, calls), measure)

    def _record(self, point: Measurement, measure: Callable[[Runner, TokenIds], float]) -> float:
        ids = np.random.default_rng(point.texts).integers(0, self.vocabulary, (point.texts, point.length)).tolist()
        first = self.call(lambda: measure(self.runner, ids))
        best, spent, repeats = float("inf"), 0.0, 0
        # Together they are as slow as the one that something else on the machine held up.
        while repeats < (1 if point.calls == 1 else 2) or (repeats < REPEATS and spent < REPEAT_SECONDS):
            seconds = self.call(lambda: measure(self.runner, ids))
            best, spent, repeats = min(best, seconds), spent + seconds, repeats + 1
            if first > max(self._left(), REPEAT_SECONDS):
                break
        self.found.append(replace(point, seconds=best))
        return best

    def _wait(self, call_seconds: float) -> float:
        """None on a CPU, which computes one text about as fast as a share of a batch."""
        return min(MOST_WAIT_SECONDS, call_seconds / 2) if self.device != "cpu" else 0.0


def enough_tokens(table: Sequence[Measurement], call_seconds: float, token_seconds: float, device: str) -> int:
    """The smallest batch that is about as fast as any: a larger one would only make others wait.

    Where time was up before the table came so far, it is the batch of which a call's overhead is a small share.
    """
    rates = [(one.texts * one.length, one.texts * one.length / one.seconds) for one in table]
    enough = ENOUGH[device] * max(rate for _, rate in rates)
    measured = min(tokens for tokens, rate in rates if rate >= enough)
    fitted = int(call_seconds / token_seconds * ENOUGH[device] / (1 - ENOUGH[device]))
    return min(fitted, MOST_TOKENS[device]) if fitted > max(tokens for tokens, _ in rates) else measured


def fit(table: Sequence[Measurement]) -> tuple[float, float, float]:
    """a, b and c of `capacity`, none negative, by least squares of the relative errors."""
    seconds = np.array([one.seconds for one in table])
    tokens = np.array([float(one.texts * one.length) for one in table])
    columns = [np.ones_like(tokens), tokens, tokens * np.array([float(one.length) for one in table])]
    scale = np.array([1.0, tokens.max(), (columns[2]).max()])
    for chosen in ((0, 1, 2), (0, 1), (1,)):
        if len({(one.texts, one.length) for one in table}) < len(chosen):
            continue
        matrix = np.stack([columns[index] / scale[index] / seconds for index in chosen], axis=1)
        solution, *_ = np.linalg.lstsq(matrix, np.ones_like(seconds), rcond=None)
        if (solution >= 0).all() and (1 not in chosen or solution[chosen.index(1)] > 0):
            found = dict(zip(chosen, (float(value) for value in solution), strict=True))
            a, b, c = (found.get(index, 0.0) / scale[index] for index in range(3))
            return float(a), float(b), float(c)
    return 0.0, float(np.median(seconds / tokens)), 0.0


def seconds_of(runner: Runner, ids: TokenIds, threads: int, calls: int = 1) -> float:
    """How long one call takes alone."""
    runner.set_threads(threads, calls)
    clock = Clock(runner.device)
    runner.run(ids)
    return clock.seconds(threads, 1)


def seconds_together(runner: Runner, ids: TokenIds, threads: int, calls: int) -> float:
    """How long one takes while so many run."""

    def run(_: int) -> None:
        runner.set_threads(threads, calls)
        for _ in range(TOGETHER):
            runner.run(ids)

    runner.set_threads(threads, calls)
    with ThreadPoolExecutor(calls) as pool:
        clock = Clock(runner.device)
        list(pool.map(run, range(calls)))
    return clock.seconds(threads, calls) / TOGETHER


class Clock:
    """Measures what calls take where nothing else needs the machine, as well as can be seen."""

    def __init__(self, device: str = "cpu") -> None:
        self._waits = device != "cpu"
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self, threads: int, calls: int) -> float:
        """Since it was made: of calls of one thread, which wait for no other thread or device, their CPU time at most.

        By the time on the wall, two calls of one thread were taken for slower than one of two threads in two of twelve
        starts beside other programs, and the server stayed at two thirds of its texts a second.
        """
        wall = time.perf_counter() - self._started
        return wall if threads > 1 or self._waits else min(wall, (time.process_time() - self._cpu) / calls)
