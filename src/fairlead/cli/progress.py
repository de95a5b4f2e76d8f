"""Where a run is: one line a stage, kept up to date by the events that the stages send.

`Road` is the state and knows nothing of terminals; `fairlead.cli.display` draws it.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waiting", "running", "cached", "done", "failed"]

# A rate is taken over this much of the recent past: long enough to be calm, short enough to follow
# a change from reading to writing.
RATE_SECONDS = 10.0
# Work that is no stage keeps its line when it took this long, and leaves no trace otherwise.
SECONDS_WORTH_A_LINE = 2.0


@dataclass
class StageLine:
    """What is known of one stage."""

    name: str
    state: State = "waiting"
    started: float | None = None
    seconds: float | None = None
    what: str = ""
    done: int = 0
    total: int | None = None
    unit: str = ""
    note: str = ""
    rows: dict[str, Any] = field(default_factory=dict)
    told_left: float | None = None
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def rate(self) -> float | None:
        """Units a second over the last ten seconds; None before two reports."""
        if len(self.samples) < 2:
            return None
        (then, before), (now, after) = self.samples[0], self.samples[-1]
        return (after - before) / (now - then) if now > then else None

    def seconds_left(self) -> float | None:
        """Seconds to the end as the stage says, or at the present rate; None when neither is known."""
        if self.told_left is not None:
            return self.told_left
        rate = self.rate()
        return max(0.0, (self.total - self.done) / rate) if self.total and rate else None


class Road:
    """The stages of a run in order, and what each has told so far."""

    def __init__(self, stages: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._stages = tuple(stages)
        self.lines = {name: StageLine(name) for name in stages}
        self._clock = clock

    def take(self, event: Mapping[str, Any]) -> StageLine:
        """Take in one event and return the line that it changed.

        What is not a stage (downloading, digesting) gets a line above them, and is over when a stage begins.
        """
        name = str(event.get("stage", ""))
        if name not in self.lines:
            self.lines = {name: StageLine(name), **self.lines}
        line = self.lines[name]
        if event.get("event") == "stage":
            self.end_other_work()
        match event.get("event"), event.get("status"):
            case "stage", "started":
                self._start(line)
            case "stage", "finished" | "cached" as status:
                self._end(line, "done" if status == "finished" else "cached", event)
            case ("stage", "failed") | ("failed", _):
                self._end(line, "failed", event)
            case "progress", _:
                self._progress(line, event)
            case "result", _:
                line.rows = dict(event.get("rows") or {})
        return line

    def is_stage(self, line: StageLine) -> bool:
        """Whether a line is one of the run's stages."""
        return line.name in self._stages

    def end_other_work(self) -> None:
        """End what is no stage."""
        for line in [line for line in self.lines.values() if not self.is_stage(line)]:
            if line.state == "running":
                self._end(line, "done", {})
                if (line.seconds or 0) < SECONDS_WORTH_A_LINE:
                    del self.lines[line.name]

    def _start(self, line: StageLine) -> None:
        if line.state != "running":
            line.state, line.started = "running", self._clock()

    def _progress(self, line: StageLine, event: Mapping[str, Any]) -> None:
        self._start(line)
        now, what = self._clock(), str(event.get("what", ""))
        if what != line.what:
            line.samples.clear()
        line.what, line.done, line.total = what, int(event.get("done") or 0), event.get("total")
        line.unit, line.note = str(event.get("unit", "")), str(event.get("note", ""))
        line.told_left = event.get("seconds_left")
        line.samples.append((now, line.done))
        while len(line.samples) > 2 and now - line.samples[0][0] > RATE_SECONDS:
            line.samples.popleft()

    def _end(self, line: StageLine, state: State, event: Mapping[str, Any]) -> None:
        line.state = state
        line.seconds = event.get("seconds")
        if line.seconds is None and line.started is not None:
            line.seconds = self._clock() - line.started
