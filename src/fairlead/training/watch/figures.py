"""What a running step tells people: rates over the recent past, the metric, memory and the time left."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
import torch

from fairlead.training.checkpoints.format import Best
from fairlead.training.launching.distributed import Group
from fairlead.training.watch.metrics import DATA_WAIT_SHARE, SECONDS_LEFT

# Long enough to be calm, short enough to follow a change.
WINDOW_SECONDS = 10.0
# Reading the memory takes 30 us, and it changes slowly.
SECONDS_BETWEEN_LOOKS = 1.0


class Figures:
    """Collects what each step did. Only the first process has one."""

    def __init__(self, metric: str, group: Group, num_steps: int, validate_every: int) -> None:
        """`metric` picks the best step; `validate_every` is the number of steps between validations."""
        self._metric, self._device = metric, group.device
        self._num_steps, self._every = num_steps, validate_every
        self._steps: deque[tuple[float, int, int]] = deque()
        self._seconds = self._validation_seconds = 0.0
        self._latest: float | None = None
        self._best: Best | None = None
        self._process = psutil.Process()
        self._memory: dict[str, float] = {}
        self._looked = float("-inf")
        self._left: float | None = None
        self._waited = self._all_waited = self._all_seconds = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as spent waiting for data: nothing is computed meanwhile."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def begin_step(self) -> None:
        """A step begins: what was waited for before is not of it."""
        self._waited = 0.0

    def step(self, seconds: float, num_tokens: int, num_computed: int) -> dict[str, float]:
        """Take in a step of so many seconds and tokens, without and with padding; its own rates."""
        self._steps.append((seconds, num_tokens, num_computed))
        self._seconds += seconds
        self._all_seconds += seconds
        self._all_waited += self._waited
        while len(self._steps) > 1 and self._seconds - self._steps[0][0] >= WINDOW_SECONDS:
            self._seconds -= self._steps.popleft()[0]
        return {
            "tokens_per_second": num_tokens / max(seconds, 1e-9),
            "padding_share": 1 - num_tokens / max(num_computed, 1),
            # Of all steps of this attempt, so that the last one says it of the run.
            DATA_WAIT_SHARE: self._all_waited / max(self._all_seconds, 1e-9),
        }

    def validated(self, metrics: Mapping[str, float], best: Best | None, seconds: float) -> None:
        """Take in a validation that took so many seconds."""
        self._latest, self._best, self._validation_seconds = metrics.get(self._metric), best, seconds

    def seconds_left(self, step: int) -> float | None:
        """Seconds to the end at the present rate, validations included; None before the first step."""
        if not self._steps:
            return None
        steps_left = self._num_steps - step
        validations_left = -(-steps_left // self._every)
        self._left = steps_left * self._seconds / len(self._steps) + validations_left * self._validation_seconds
        return self._left

    def note(self, loss: float) -> str:
        """`loss 0.4123, macro_f1 0.881 (best 0.903), 12,345 tokens/s, padding 3.1 %, 1.2 GB`."""
        tokens, computed = (sum(column) for column in list(zip(*self._steps, strict=True))[1:])
        parts = [f"loss {loss:.4f}", *self._metric_note()]
        parts += [
            f"{tokens / max(self._seconds, 1e-9):,.0f} tokens/s",
            f"padding {100 * (1 - tokens / computed):.1f} %",
        ]
        memory = self.memory()
        parts.append(f"{memory['memory_bytes'] / 1e9:.1f} GB")
        if "gpu_memory_bytes" in memory:
            parts.append(f"GPU {memory['gpu_memory_bytes'] / 1e9:.1f} GB")
        return ", ".join(parts)

    def sample(self) -> dict[str, float]:
        """What is logged every few seconds, whether steps end or not."""
        return self.memory() | ({} if self._left is None else {SECONDS_LEFT: self._left})

    def memory(self) -> dict[str, float]:
        """Bytes that this process holds, and that torch has taken of its GPU."""
        if (now := time.monotonic()) - self._looked >= SECONDS_BETWEEN_LOOKS:
            self._looked = now
            self._memory = {"memory_bytes": float(self._process.memory_info().rss)}
            if self._device.type == "cuda":
                self._memory["gpu_memory_bytes"] = float(torch.cuda.memory_reserved(self._device))
        return self._memory

    def _metric_note(self) -> list[str]:
        if self._latest is None:
            return []
        best = f" (best {self._best.metrics[self._metric]:.3f})" if self._best else ""
        return [f"{self._metric} {self._latest:.3f}{best}"]
