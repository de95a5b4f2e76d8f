"""Draw a run: a live table in a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from fairlead.cli.output import cell
from fairlead.cli.progress import Road, StageLine

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

MARKS = {"waiting": "·", "running": "▸", "cached": "✓", "done": "✓", "failed": "✗"}
STYLES = {"waiting": "dim", "running": "cyan", "cached": "green", "done": "green", "failed": "red"}
BAR_WIDTH = 16
NAME_WIDTH = 10
# What fits beside bar, count, rate and time left in 80 columns; a longer note has the line below.
LONGEST_NOTE = 24
SECONDS_BETWEEN_LINES = 5.0
REFRESHES_PER_SECOND = 8


class Display(AbstractContextManager["Display"]):
    """Follows a run on `stream`. Give its `on_event` to whatever runs the stages."""

    def __init__(self, stages: Sequence[str], stream: TextIO | None = None) -> None:
        """Draw on standard output unless another `stream` is given."""
        from rich.console import Console

        self.road = Road(stages)
        self._console = Console(file=stream or sys.stdout, highlight=False, markup=False, emoji=False)
        self._stream = stream or sys.stdout
        self._live: Live | None = None
        self._last_line: dict[str, float] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=REFRESHES_PER_SECOND,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self.road.end_other_work()
        if self._live:
            self._live.stop()

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Take in one event; safe to call from any thread."""
        if event.get("event") == "submitted":
            self._console.print(f"submitted: {event.get('address')}")
            return
        with self._lock:
            known = self.road.lines.get(str(event.get("stage")))
            before = known.state if known else None
            line = self.road.take(event)
            changed = line.state != before and self.road.is_stage(line)
            if self._live is None and (changed or self._is_due(line)):
                print(plain(line), file=self._stream, flush=True)

    def _is_due(self, line: StageLine) -> bool:
        """Whether a running stage has not printed a line for five seconds."""
        now = time.monotonic()
        if line.state != "running" or now - self._last_line.setdefault(line.name, now) < SECONDS_BETWEEN_LINES:
            return False
        self._last_line[line.name] = now
        return True

    def _render(self) -> "RenderableType":
        with self._lock:
            return render(self.road)


def plain(line: StageLine) -> str:
    """One stage as a line of plain text: `train: 120/400 steps, 14.2 steps/s, 0:20 left, loss 1.31`."""
    if line.state == "running":
        parts = [part for part in (*_counted(line), line.note) if part]
        return f"{line.name}: " + (", ".join(parts) or "running")
    seconds = f" in {_seconds(line.seconds)}" if line.state == "done" and line.seconds is not None else ""
    return f"{line.name}: {line.state}{seconds}" + (f": {found}" if (found := _found(line)) else "")


def render(road: Road) -> "RenderableType":
    """The whole road, a line a stage; what does not fit the width of the terminal is cut."""
    from rich.console import Group
    from rich.text import Text

    width = max(NAME_WIDTH, *(len(name) for name in road.lines)) if road.lines else 0
    lines = []
    for line in road.lines.values():
        name = "bold" if line.state == "running" else "dim" if line.state == "waiting" else ""
        text = Text(no_wrap=True, overflow="ellipsis").append(MARKS[line.state], style=STYLES[line.state])
        lines.append(text.append(f" {line.name:<{width}} ", style=name).append_text(_status(line)))
        if line.state == "running" and len(line.note) > LONGEST_NOTE:
            lines.append(Text(f"{'':{width + 3}}{line.note}", style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def _status(line: StageLine) -> "Text":
    from rich.text import Text

    if line.state == "waiting":
        return Text("")
    if line.state == "running":
        return _running(line)
    if line.state == "failed":
        return Text.assemble(("failed", "red"))
    words = "cached" if line.state == "cached" else f"done in {_seconds(line.seconds or 0)}"
    return Text.assemble((f"{words:<15}", STYLES[line.state]), (_found(line), "dim"))


def _running(line: StageLine) -> "Text":
    from rich.text import Text

    if not line.what:
        elapsed = time.monotonic() - line.started if line.started is not None else 0.0
        return Text(f"{_seconds(elapsed)}", style="dim")
    text = Text()
    if line.total:
        full = min(BAR_WIDTH, BAR_WIDTH * line.done // line.total)
        text.append("━" * full, style="cyan").append("─" * (BAR_WIDTH - full), style="bright_black").append(" ")
    beside = line.note if len(line.note) <= LONGEST_NOTE else ""
    return text.append("  ".join(_counted(line))).append(f"  {beside}" if beside else "", style="dim")


def _counted(line: StageLine) -> list[str]:
    """What is counted, how fast, and how long it still takes, as far as each is known."""
    if not line.what:
        return []
    done, total = _amount(line.done, line.unit), _amount(line.total or 0, line.unit)
    parts = [f"{done}/{total}{_after(line.unit)}" if line.total else f"{done}{_after(line.unit)}"]
    rate, left = line.rate(), line.seconds_left()
    if rate is not None:
        parts.append(f"{_amount(rate, line.unit)}/s")
    if left is not None:
        parts.append(f"{clock(left)} left")
    return parts


def _amount(amount: float, unit: str) -> str:
    if unit == "bytes":
        return f"{amount / 1e6:,.1f} MB"
    return f"{amount:,.0f}" if amount >= 100 or isinstance(amount, int) else f"{amount:.1f}"


def _after(unit: str) -> str:
    return "" if unit == "bytes" else f" {unit}"


def _found(line: StageLine) -> str:
    """What a stage found, in a few words, for the end of its line."""
    return ", ".join(f"{name} {cell(value)}" for name, value in line.rows.items() if not isinstance(value, Mapping))


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def clock(seconds: float) -> str:
    """Seconds as `1:05` or `2:01:05`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
