"""`fairlead runs show --follow`: watch a run until it ends, in a terminal, in a pipe or as JSON lines."""

import json
import sys
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any

from fairlead.cli.chart import chart
from fairlead.cli.display import clock
from fairlead.cli.following import LOSS, VALIDATION, Following, finite
from fairlead.cli.output import console, run_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from fairlead.registry import MetricPoint, Registry, RunRecord

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LINES = 5.0
SECONDS_WORTH_A_WORD = 15.0
# Charts side by side need this many columns; below 30, or with fewer lines than six a chart, there is none.
WIDE, NARROWEST, CHART_HEIGHT, LOWEST_CHART = 100, 30, 12, 6
LINES_BESIDE_CHARTS = 5


def follow(registry: "Registry", run: "RunRecord", as_json: bool, patience: float) -> None:
    """Show a run until it ends. Raises TrainingError when it says nothing for `patience` seconds: it has died."""
    following = Following(registry, run.run_id)
    out = console()
    try:
        if as_json:
            _print_json(following, patience)
        elif out.is_terminal:
            _draw(following, patience)
        else:
            _print_lines(following, patience)
    except KeyboardInterrupt:
        print(f"{run.run_id} goes on; fairlead runs show {run.run_id} --follow shows it again", file=sys.stderr)
        raise


def outcome(run: "RunRecord") -> str:
    """How a run ended, in a line: `finished in 2:05: accuracy 0.91, macro_f1 0.90` or `failed: <reason>`."""
    if run.status != "finished":
        return f"{run.status}: {run.reason or 'no reason was noted'}"
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in run.metrics.items())
    return f"finished in {clock(_seconds(run))}" + (f": {metrics}" if metrics else "")


def _watch(following: Following, patience: float) -> bool:
    """Whether the run still goes on; waits until it is time to look again."""
    from fairlead.errors import TrainingError

    if following.run.status != "running":
        return False
    if following.silence > patience:
        raise TrainingError(
            f"runs: {following.run.run_id} has said nothing for {clock(following.silence)} and has probably died at "
            f"step {following.step}; see its log, and run it again to resume (--patience waits longer)"
        )
    time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


def _print_json(following: Following, patience: float) -> None:
    _print_object({"event": "run", **run_json(following.run)})
    _print_points(following.look())
    while _watch(following, patience):
        _print_points(following.look())
    _print_object({"event": "end", **run_json(following.run), "latest": following.as_json()})


def _print_points(points: "list[MetricPoint]") -> None:
    for step, of_step in groupby(points, key=lambda point: point.step):
        together = list(of_step)
        values = {point.name: finite(point.value) for point in together}
        _print_object({"event": "metrics", "step": step, "time": max(p.time for p in together), "values": values})


def _print_object(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def _print_lines(following: Following, patience: float) -> None:
    """A line every five seconds at most, and only when there is something new."""
    print(_title(following), flush=True)
    told, last = float("-inf"), ""
    following.look()
    while True:
        line = ", ".join(following.figures())
        if line != last and following.latest and time.monotonic() - told >= SECONDS_BETWEEN_LINES:
            told, last = time.monotonic(), line
            print(line, flush=True)
        if not _watch(following, patience):
            break
        following.look()
    if following.latest and (line := ", ".join(following.figures())) != last:
        print(line, flush=True)
    print(outcome(following.run), flush=True)


def _draw(following: Following, patience: float) -> None:
    """A screen that is drawn anew each second, and stays when the run has ended."""
    from rich.live import Live

    out = console()
    # Asked now: once drawing has begun, standard output is another object, without an encoding.
    braille = (sys.stdout.encoding or "").lower().startswith("utf")
    following.look()
    with Live(render(following, out, braille), console=out, auto_refresh=False, vertical_overflow="crop") as live:
        while _watch(following, patience):
            following.look()
            live.update(render(following, out, braille), refresh=True)


def render(following: Following, out: "Console", braille: bool) -> "RenderableType":
    """The screen: what runs, its latest figures, its curves, and how it ended."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(_title(following), style="bold"), Text(" · ".join(following.figures())), Text("")]
    lines += [Text(line) for line in _charts(following, out.width, out.height - LINES_BESIDE_CHARTS, braille)]
    if following.run.status != "running":
        lines.append(Text(outcome(following.run), style="green" if following.run.status == "finished" else "red"))
    elif following.silence > SECONDS_WORTH_A_WORD:
        lines.append(Text(f"no news for {clock(following.silence)}", style="yellow"))
    for line in lines[3:-1] if following.run.status != "running" else lines[3:]:
        line.no_wrap, line.overflow = True, "crop"
    return Group(*lines)


def _charts(following: Following, width: int, height: int, braille: bool) -> list[str]:
    """The curves side by side in a wide terminal, else one below the other, as far as there is room."""
    names = [name for name in (LOSS, following.metric) if name in following.curves]
    if width < NARROWEST or not names:
        return []
    beside = width >= WIDE and len(names) == 2
    rows = min(CHART_HEIGHT, height // (1 if beside else len(names)))
    if rows < LOWEST_CHART:
        names, rows, beside = names[:1], min(CHART_HEIGHT, height), False
    if rows < LOWEST_CHART:
        return []
    each = (width - 2) // 2 if beside else width - 1
    drawn = [chart(n.replace(VALIDATION, "validation "), following.curves[n], each, rows, braille) for n in names]
    if not beside:
        return [line for lines in drawn for line in lines]
    left, right = (lines + [""] * (rows - len(lines)) for lines in drawn)
    return [f"{a:<{each}}  {b}" for a, b in zip(left, right, strict=True)]


def _title(following: Following) -> str:
    run = following.run
    again = f", attempt {run.attempts}" if run.attempts > 1 else ""
    return f"{run.project} {run.run_id}: {run.status} for {clock(_seconds(run))}{again}"


def _seconds(run: "RunRecord") -> float:
    from datetime import UTC, datetime

    end = datetime.fromisoformat(run.finished) if run.finished else datetime.now(UTC)
    return max(0.0, (end - datetime.fromisoformat(run.started)).total_seconds())
