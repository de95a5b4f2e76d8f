"""Who may wait: a bound on the tokens that are accepted and not answered, kept before anything is tokenized.

A model that computes r tokens a second answers what is accepted last after (accepted tokens)/r seconds, so the bound
is r times the seconds that a request may wait. Both are measured while requests are served: r and the pace because
other programs share the machine, the usual length of texts because it decides how long an unhurried answer takes, and
how many times as long others may be made to wait (see patience.py).
"""

import threading
from collections import deque
from collections.abc import Sequence

from fairlead.errors import DeadlineExceeded, Overloaded
from fairlead.inference.capacity import Capacity
from fairlead.inference.config import ServingConfig
from fairlead.inference.jobs import Job
from fairlead.inference.patience import Patience

# Less than this would refuse what no caller could tell from a jitter of the network.
LEAST_WAIT_SECONDS = 0.025
# Tokens of a character of text until texts were seen: more than any usual text has.
FIRST_RATIO = 0.4
# Tokenizing so many characters takes some 10 ms, for which others would have to wait.
SLICED_CHARACTERS = 65_536
LENGTHS_KEPT, LENGTHS_LEARNT = 512, 100
# Weight of what was seen last in the averages.
NEWS = 0.05


class Room:
    """The places in the queue of one model."""

    def __init__(self, name: str, capacity: Capacity, config: ServingConfig) -> None:
        self.name = name
        self.tokens = 0
        """Accepted and not answered, of requests that are served whole."""
        self.long_tokens = 0
        """The same of requests that are served in slices."""
        self.tokens_per_second = capacity.tokens_per_second
        """Of late."""
        self._capacity, self._config = capacity, config
        self._patience, self._pace = Patience(), 1.0
        self._ratio = FIRST_RATIO
        self._lengths: deque[int] = deque(maxlen=LENGTHS_KEPT)
        self._unseen = 0
        self._usual_longest = capacity.longest
        self._lock = threading.Lock()

    def estimate(self, texts: Sequence[str]) -> int:
        """Tokens that texts will have, without reading them."""
        longest, ratio = self._capacity.longest, self._ratio
        return sum(min(longest, int(len(text) * ratio) + 2) for text in texts)

    def is_long(self, tokens: int, characters: int) -> bool:
        """Whether a request of so many tokens, or that takes so long to tokenize, is cut into slices."""
        return tokens > max(self._capacity.batch_tokens, self._capacity.longest) or characters > SLICED_CHARACTERS

    @property
    def wait_seconds(self) -> float:
        """How long a request waits for its turn at most."""
        if self._config.queue_milliseconds is not None:
            return self._config.queue_milliseconds / 1e3
        return max(LEAST_WAIT_SECONDS, self._patience.waits * self._alone_seconds(1, self._usual_longest))

    def _alone_seconds(self, texts: int, length: int) -> float:
        """How long a request would take now if there were no other."""
        return self._pace * self._capacity.batch_seconds(texts, length)

    @property
    def bound(self) -> int:
        """Tokens of whole requests that may be before another: what is computed while it waits."""
        return int(self.wait_seconds * self.tokens_per_second)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch at most: of each call, one that runs and one that waits have room in the bound."""
        if self._config.batch_tokens is not None or self._capacity.device != "cpu":
            return self._capacity.batch_tokens
        capacity = self._capacity
        return min(capacity.batch_tokens, max(self.bound // (2 * capacity.calls), self._usual_longest))

    def take(self, tokens: int, share: float, deadline_seconds: float | None, characters: int = 0) -> bool:
        """Take a place for so many tokens, and characters that are tokens not yet; whether they are served in slices.

        `share` of the machine is this model's. Raises Overloaded when there is no room and DeadlineExceeded when
        their turn would come too late.
        """
        is_long = self.is_long(tokens, characters)
        with self._lock:
            waiting = self.long_tokens if is_long else self.tokens
            rate = self.tokens_per_second * share
            bound = self._config.long_queue_seconds * rate if is_long else self.bound * share
            seconds = (waiting + (tokens if is_long else 0)) / rate
            if waiting and waiting > bound:
                if not is_long:
                    self._patience.saw_refusal()
                raise Overloaded(
                    f"{self.name}: {waiting} tokens wait and {int(bound)} may; send it again in {seconds:.2f} s",
                    seconds,
                )
            if deadline_seconds is not None and seconds > deadline_seconds:
                raise DeadlineExceeded(
                    f"{self.name}: its turn comes in {seconds:.2f} s, after its deadline of {deadline_seconds:.2f} s; "
                    "send it again later",
                    seconds,
                )
            self._add(tokens, is_long)
        return is_long

    def give(self, job: Job) -> None:
        """Give the place of a job back."""
        with self._lock:
            self._add(-job.tokens, job.is_long)

    def _add(self, tokens: int, is_long: bool) -> None:
        if is_long:
            self.long_tokens += tokens
        else:
            self.tokens += tokens

    def saw_texts(self, characters: int, lengths: Sequence[int]) -> None:
        """Learn from texts that were tokenized; texts that were cut say nothing of the ratio."""
        self._lengths.extend(lengths)
        self._unseen += len(lengths)
        if max(lengths) < self._capacity.longest and characters:
            self._ratio += NEWS * (sum(lengths) / characters - self._ratio)
        if self._unseen >= LENGTHS_LEARNT:
            self._unseen = 0
            self._usual_longest = sorted(self._lengths)[int(0.99 * len(self._lengths))]

    def saw_answer(self, texts: int, tokens: int, seconds: float) -> None:
        """Learn from a whole request that was answered so long after it came."""
        alone = max(self._alone_seconds(texts, tokens // texts), self._alone_seconds(1, self._usual_longest))
        self._patience.saw_answer(seconds / alone)

    def saw_pace(self, texts: int, length: int, seconds: float) -> None:
        """Learn from a batch, padded to so many tokens, how fast the machine is against when it was measured."""
        measured = self._capacity.slowdown * self._capacity.batch_seconds(texts, length)
        self._pace += NEWS * (seconds / measured - self._pace)

    def saw_batch(self, tokens: int, seconds: float) -> None:
        """Learn from a batch that others waited behind; `seconds` are those until the next could start."""
        self.tokens_per_second += NEWS * (tokens / seconds - self.tokens_per_second)

    def saw_lone_batch(self, tokens: int, seconds: float) -> None:
        """Learn from a batch that nobody waited behind, where it shows that more can be done than was thought.

        A rate that was measured too low lets so few in that nobody ever waits; it would stay as it is.
        """
        if tokens / seconds > self.tokens_per_second:
            self.saw_batch(tokens, seconds)
