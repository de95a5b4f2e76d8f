"""How fast variants answer, measured so that what else the machine does hits them all alike.

Every round times each variant once, and begins with another one; of each variant the median over rounds counts.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from fairlead.events import Progress
from fairlead.formats.variants import Speed
from fairlead.optimization.material import TokenIds
from fairlead.variants.batch import BATCH_TOKENS, by_length
from fairlead.variants.contract import Logits, Runner

S = TypeVar("S")
T = TypeVar("T")

# What the reference should take for the texts of a round, and any variant for the calls of one shape.
ROUND_SECONDS, SHAPE_SECONDS = 0.15, 0.02
LEAST_TEXTS = 32
# A p99 of few calls is their slowest: how many there were is in the table.
LEAST_CALLS, MOST_CALLS = 2, 20
BATCH_SIZES = (1, 16)
QUANTILES = (0.5, 0.95)


def batched(token_ids: TokenIds, device: str) -> list[list[int]]:
    """Indices of texts in the batches that the engine would make of them on a `cpu` or `cuda`."""
    return list(by_length([len(ids) for ids in token_ids], BATCH_TOKENS[device]))


def batches(token_ids: TokenIds, device: str) -> list[TokenIds]:
    """The token ids of each of these batches."""
    return [[token_ids[index] for index in batch] for batch in batched(token_ids, device)]


def outputs(runner: Runner, token_ids: TokenIds, advance: Callable[[int], None] = lambda count: None) -> Logits:
    """Outputs of every text, in order, shape (texts, outputs)."""
    indices, pieces = batched(token_ids, runner.device), []
    for batch in indices:
        pieces.append(runner.run([token_ids[index] for index in batch]))
        advance(len(batch))
    order = np.argsort(np.concatenate([np.asarray(batch) for batch in indices]), kind="stable")
    found: Logits = np.concatenate(pieces)[order]
    return found


def throughput(runners: Mapping[str, Runner], token_ids: TokenIds, rounds: int, progress: Progress) -> dict[str, float]:
    """Texts a second of each runner over `token_ids` in batches of like length."""
    parts = batches(token_ids, next(iter(runners.values())).device)

    def one(runner: Runner) -> float:
        started = time.perf_counter()
        for part in parts:
            runner.run(part)
        progress.advance()
        return time.perf_counter() - started

    taken = interleaved(runners, one, rounds)
    return {name: len(token_ids) / statistics.median(seconds) for name, seconds in taken.items()}


def by_shape(
    runners: Mapping[str, Runner], lengths: Sequence[int], id_: int, rounds: int, progress: Progress
) -> dict[str, list[Speed]]:
    """Speeds by batch and length; every text of a batch is `length` times the token `id_`."""
    found: dict[str, list[Speed]] = {name: [] for name in runners}
    for batch in BATCH_SIZES:
        for length in lengths:
            one = functools.partial(_calls, [[id_] * length] * batch, progress)
            taken = interleaved(runners, one, rounds)
            for name, calls in taken.items():
                found[name].append(_speed(batch, length, [second for some in calls for second in some]))
    return found


def interleaved(sides: Mapping[str, S], one: Callable[[S], T], rounds: int) -> dict[str, list[T]]:
    """What `one` gives for each side in each round, in an order that turns by one from round to round."""
    names, found = list(sides), {name: [] for name in sides}  # type: tuple[list[str], dict[str, list[T]]]
    for index in range(rounds):
        start = index % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(one(sides[name]))
    return found


def enough_texts(token_ids: TokenIds, texts_per_second: float) -> TokenIds:
    """So many of the texts, evenly, as a round has time for."""
    wanted = min(len(token_ids), max(LEAST_TEXTS, int(texts_per_second * ROUND_SECONDS)))
    return [token_ids[int(index)] for index in np.linspace(0, len(token_ids) - 1, wanted)]


def usual_lengths(token_ids: TokenIds) -> list[int]:
    """The median length, and that which one text of twenty exceeds."""
    found = np.quantile([len(ids) for ids in token_ids], QUANTILES, method="higher")
    return sorted({int(length) for length in found})


def _calls(texts: TokenIds, progress: Progress, runner: Runner) -> list[float]:
    taken: list[float] = []
    while len(taken) < LEAST_CALLS or (len(taken) < MOST_CALLS and sum(taken) < SHAPE_SECONDS):
        started = time.perf_counter()
        runner.run(texts)
        taken.append(time.perf_counter() - started)
    progress.advance()
    return taken


def _speed(batch: int, length: int, seconds: Sequence[float]) -> Speed:
    p50, p99 = (float(value) for value in np.quantile(seconds, (0.5, 0.99)))
    return Speed(
        batch=batch,
        length=length,
        texts_per_second=batch / p50,
        p50_seconds=p50,
        p99_seconds=p99,
        calls=len(seconds),
    )
