"""The peer of small language models: a character n-gram model with interpolated Kneser-Ney smoothing.

    p(c | h) = max(n(h c) - D, 0) / n(h) + D * t(h) / n(h) * p(c | h without its first character)

n counts occurrences for the longest h, and for shorter ones how many characters stand before it; t(h) is how many
characters follow h; D = n1 / (n1 + 2 n2) of each length from the entries seen once and twice. (Chen and Goodman,
1999, "An empirical study of smoothing techniques for language modeling", section 2.7.)
"""

import math
from collections import Counter, defaultdict


class CharacterNgrams:
    """A model of characters, each predicted from the `order - 1` before it."""

    def __init__(self, text: str, order: int = 6) -> None:
        self.order = order
        self.num_characters = len(set(text)) + 1
        self._counts: list[Counter[str]] = [Counter() for _ in range(order)]
        self._counts[-1].update(text[i : i + order] for i in range(len(text) - order + 1))
        for length in range(order - 1, 0, -1):
            # Each entry one longer stands for one character before this one.
            self._counts[length - 1].update(entry[1:] for entry in self._counts[length])
        self._totals: list[dict[str, int]] = []
        self._types: list[dict[str, int]] = []
        self._discounts = []
        for counts in self._counts:
            totals: defaultdict[str, int] = defaultdict(int)
            types: defaultdict[str, int] = defaultdict(int)
            for entry, count in counts.items():
                totals[entry[:-1]] += count
                types[entry[:-1]] += 1
            seen = Counter(counts.values())
            self._totals.append(dict(totals))
            self._types.append(dict(types))
            self._discounts.append(seen[1] / (seen[1] + 2 * seen[2]) if seen[1] else 0.5)

    def probability(self, history: str, character: str) -> float:
        """The probability of `character` after `history`."""
        found = 1 / self.num_characters
        for length in range(min(self.order, len(history) + 1)):
            context = history[len(history) - length :]
            total = self._totals[length].get(context)
            if total is None:
                break
            discount = self._discounts[length]
            own = max(self._counts[length].get(context + character, 0) - discount, 0.0) / total
            found = own + discount * self._types[length][context] / total * found
        return found

    def nats_per_character(self, text: str) -> float:
        """The mean of -log p over the characters of `text`."""
        start = self.order - 1
        nats = (math.log(self.probability(text[max(0, i - start) : i], text[i])) for i in range(len(text)))
        return -sum(nats) / len(text)
