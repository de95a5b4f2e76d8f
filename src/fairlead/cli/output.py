"""What commands print: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from fairlead.registry import RunRecord

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# Wide enough that a line is never folded where no one looks at it: in a pipe or a file.
PIPE_WIDTH = 4096
# A cell longer than this is text rather than a name.
LONG = 32


def console() -> "Console":
    """Standard output; as wide as the terminal, or unfolded where it is not one."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(rows: Sequence[Mapping[str, Any]], empty: str) -> None:
    """Print rows with the same keys as a table headed by them, or the sentence `empty` when there are none.

    Numbers stand to the right, None is a dash.
    """
    if not rows:
        console().print(empty)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in rows[0]:
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        # Names, dates and digests stay whole; what has several words is folded where the terminal is narrow.
        listed = any(isinstance(row[name], list) or len(cell(row[name])) > LONG for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=not listed)
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    show(table)


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print names and values, one pair a line, values aligned."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, cell(value))
    show(table)


def heading(text: str) -> None:
    """Print a heading after an empty line."""
    from rich.text import Text

    show("", Text(text, style="bold"))


def cell(value: Any) -> str:
    """A value as a table shows it: floats with four digits, thousands apart, lists with commas."""
    if value is None or value in ("", [], (), {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if abs(value) >= 100:
            return f"{value:,.1f}"
        return f"{value:.4f}" if abs(value) >= 1e-3 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={cell(item)}" for name, item in value.items())
    return str(value)


def when(moment: Any) -> str:
    """A moment, ISO text or datetime, as `2026-03-01 14:05` in UTC."""
    return str(moment).replace("T", " ")[:16]


def show(*things: Any) -> None:
    """Print text, tables and panels, without the blanks that rich adds at the end of each line in a pipe."""
    out = console()
    if out.is_terminal:
        out.print(*things, sep="\n")
        return
    with out.capture() as capture:
        out.print(*things, sep="\n")
    for line in capture.get().splitlines():
        print(line.rstrip())


def shown_metrics(
    metrics: Mapping[str, float], usual: Sequence[str] = ("accuracy", "macro_f1")
) -> dict[str, float | None]:
    """The metrics that a summary shows: `usual`, or the two that fit another task than classification."""
    by_task = (("nats_per_character", "perplexity"), ("r2", "rmse"), ("micro_f1", "macro_f1"))
    names = next((names for names in by_task if names[0] in metrics), usual)
    return {name: metrics.get(name) for name in names}


def run_json(run: "RunRecord") -> dict[str, Any]:
    """A training run for programs."""
    return {
        **{name: value for name, value in vars(run).items() if name not in ("environment", "code")},
        "environment": run.environment.to_dict(),
        "code": run.code.to_dict(),
    }
