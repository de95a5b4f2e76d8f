"""Texts that wait for one model, and which of them make the next batch."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fairlead.inference.capacity import Capacity
from fairlead.inference.jobs import Item, TokenIds

# How far batches are put together from: so many full batches, but no more texts than sort in a millisecond.
WINDOW_BATCHES = 4
WINDOW_TEXTS = 2048


@dataclass
class Running:
    """What is computed of one model at this moment."""

    batches: int = 0
    """Batches, of all its flows."""


class Flow:
    """Waiting texts, the oldest first. Its users hold the scheduler's lock."""

    def __init__(
        self,
        weight: float,
        capacity: Capacity,
        read: Callable[[Sequence[str]], list[TokenIds]],
        compute: Callable[[list[Item]], None],
        batch_tokens: Callable[[], int] | None = None,
        running: Running | None = None,
    ) -> None:
        self.weight = weight
        """Share of the machine against other flows that have work."""
        self.capacity = capacity
        """What batches are cut by."""
        self.read = read
        """Tokenizes texts; called in one of the scheduler's threads at a time."""
        self.compute = compute
        """Answers a batch; called in the scheduler's threads, in several at a time where the capacity says so."""
        self.running = running or Running()
        """The same for all flows of a model."""
        self.fills_until = 0.0
        """time.perf_counter() until which a batch that is not full waits for more texts."""
        self._batch_tokens = batch_tokens or (lambda: capacity.batch_tokens)
        self.used_seconds = 0.0
        """Compute time had, divided by the weight; the flow that has had least is next."""
        self._items: deque[Item] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, items: Sequence[Item]) -> None:
        """Add texts at the end."""
        self._items.extend(items)

    def clear(self) -> list[Item]:
        """Take everything out."""
        items = list(self._items)
        self._items.clear()
        return items

    def has_batch(self, tokens: int) -> bool:
        """Whether so many tokens wait."""
        count = 0
        return any((count := count + item.length) >= tokens for item in self._items)

    def take(self, now: float, startable: int = 1) -> list[Item]:
        """The next batch; none when nobody waits for any of the texts.

        The oldest text is always in the batch, so that none starves; the others are those whose lengths fit it best.
        It is a part of what waits, where others could start at the same moment: `startable` batches, this one included.
        """
        window: list[Item] = []
        tokens, budget = 0, self._batch_tokens()
        while self._items and tokens < WINDOW_BATCHES * budget and len(window) < WINDOW_TEXTS:
            item = self._items.popleft()
            if item.job.wanted(now):
                window.append(item)
                tokens += item.length
        if startable > 1:
            budget = min(budget, -(-tokens // startable))
        chosen = _choose([item.length for item in window], self.capacity, budget) if window else set()
        self._items.extendleft(reversed([item for index, item in enumerate(window) if index not in chosen]))
        return [window[index] for index in sorted(chosen)]


def _choose(lengths: Sequence[int], capacity: Capacity, budget: int) -> set[int]:
    """Indices of the first text and those that are cheaper in one batch with it than in a call of their own."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    low = high = order.index(0)
    costs = [capacity.text_seconds(lengths[index]) for index in order]
    while True:
        texts = high - low + 1
        shorter = _waste_below(order, lengths, costs, low, high, budget)
        longer = _waste_above(order, lengths, costs, low, high, budget)
        # What joining computes for nothing has to be less than the overhead of another call.
        if min(shorter, longer) > capacity.call_seconds:
            return {order[place] for place in range(low, low + texts)}
        if shorter <= longer:
            low -= 1
        else:
            high += 1


def _waste_below(
    order: Sequence[int], lengths: Sequence[int], costs: Sequence[float], low: int, high: int, budget: int
) -> float:
    """Seconds of padding when the next shorter text joins; infinite when it cannot."""
    if low == 0 or (high - low + 2) * lengths[order[high]] > budget:
        return float("inf")
    return costs[high] - costs[low - 1]


def _waste_above(
    order: Sequence[int], lengths: Sequence[int], costs: Sequence[float], low: int, high: int, budget: int
) -> float:
    """Seconds of padding when the next longer text joins; infinite when it cannot."""
    if high + 1 == len(order) or (high - low + 2) * lengths[order[high + 1]] > budget:
        return float("inf")
    return (high - low + 1) * (costs[high + 1] - costs[high])
