"""`fairlead runs`: training runs, their settings and their curves."""

from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.output import JsonOption, console, heading, print_json, print_pairs, print_table, run_json, when

if TYPE_CHECKING:
    from fairlead.registry import MetricPoint, Registry, RunRecord

app = typer.Typer(help="Training runs: list them, show one, follow one.", no_args_is_help=True)

BLOCKS = "▁▂▃▄▅▆▇█"
# Blocks of a curve, and in a terminal of less than 110 columns, where its numbers want the place.
CURVE_WIDTH, NARROW_CURVE_WIDTH = 40, 12
WIDE_TERMINAL = 110


@app.command("list")
def list_(
    project: Annotated[str | None, typer.Argument(help="Only the runs of this project.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, the latest first."""
    from fairlead.registry import open_registry

    with open_registry() as registry:
        runs = list(registry.list_runs(project))
    if as_json:
        print_json([run_json(run) for run in runs])
    else:
        print_table([_row(run) for run in runs], "no run yet; start one with fairlead run")


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(help="Id of the run, or the beginning of it.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show its figures and curves until it ends; with --json, in lines.")
    ] = False,
    patience: Annotated[
        float, typer.Option("--patience", min=1, help="With --follow: seconds without news after which to give up.")
    ] = 120,
    everything: Annotated[
        bool, typer.Option("--all", help="Print the settings that are at their default too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one run: settings, metrics and curves."""
    from fairlead.registry import open_registry

    with open_registry() as registry:
        run = find_run(registry, run_id)
        if follow:
            from fairlead.cli.follow import follow as show_until_the_end

            show_until_the_end(registry, run, as_json, patience)
            return
        points = list(registry.metric_history(run.run_id))
    if as_json:
        print_json(run_json(run) | {"history": [asdict(point) for point in points]})
        return
    print_pairs(_facts(run))
    heading("settings" if everything else "settings that differ from the defaults")
    print_pairs(_settings(run, everything))
    heading("curves")
    print_table(curves(points), "no metric was logged yet")


def find_run(registry: "Registry", text: str) -> "RunRecord":
    """The run with this id or the only one whose id begins so. Raises NotFound, or Conflict for several."""
    from fairlead.errors import Conflict

    found = [run for run in registry.list_runs() if run.run_id.startswith(text)]
    exact = [run for run in found if run.run_id == text]
    if len(found) > 1 and not exact:
        raise Conflict(f"runs: {text!r} begins the id of {len(found)} runs; write more of it")
    return (exact or found or [registry.get_run(text)])[0]


def curves(points: list["MetricPoint"]) -> list[dict[str, Any]]:
    """One row a metric: its curve over the steps, where it began, where it is and its extremes."""
    from fairlead.cli.following import LOGGING_SHARE, NUM_STEPS, SECONDS_LEFT

    series: dict[str, list[float]] = {}
    for point in points:
        if point.name in (LOGGING_SHARE, NUM_STEPS, SECONDS_LEFT):
            continue
        series.setdefault(point.name, []).append(point.value)
    return [_curve_row(name, values) for name, values in series.items()]


def sparkline(values: list[float], width: int = CURVE_WIDTH) -> str:
    """A curve in blocks, `width` at most; each block is the mean of its share, a space where that is not a number."""
    count = min(width, len(values))
    edges = [len(values) * i // count for i in range(count + 1)] if count else [0]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    finite = [mean for mean in means if abs(mean) < float("inf")]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((m - low) * scale)] if abs(m) < float("inf") else " " for m in means)


def _curve_row(name: str, values: list[float]) -> dict[str, Any]:
    finite = [value for value in values if abs(value) < float("inf")]
    return {
        "metric": name,
        "curve": sparkline(values, CURVE_WIDTH if console().width >= WIDE_TERMINAL else NARROW_CURVE_WIDTH),
        "points": len(values),
        "last": values[-1],
        "min": min(finite, default=None),
        "max": max(finite, default=None),
    }


def _row(run: "RunRecord") -> dict[str, Any]:
    return {
        "run": run.run_id[:16],
        "project": run.project,
        "status": run.status,
        "attempts": run.attempts,
        "macro_f1": run.metrics.get("macro_f1"),
        "started": when(run.started),
    }


def _facts(run: "RunRecord") -> dict[str, Any]:
    return {
        "run": run.run_id,
        "project": run.project,
        "status": run.status + (f": {run.reason}" if run.reason else ""),
        "attempts": run.attempts,
        "started": f"{when(run.started)} UTC",
        "finished": f"{when(run.finished)} UTC" if run.finished else None,
        "data": run.data_digest,
        "weights": run.weights_digest,
        "seed": str(run.seed),
        "code": f"{run.code.package}, commit {(run.code.commit or 'unknown')[:12]}"
        + (", with local changes" if run.code.diff_digest else ""),
        "on": f"{run.environment.hardware}, {run.environment.world_size} process(es) "
        f"of {run.environment.num_threads} thread(s)",
        **run.metrics,
    }


def _settings(run: "RunRecord", everything: bool) -> dict[str, Any]:
    from fairlead.cli.compare import flatten
    from fairlead.project import ProjectConfig

    settings = flatten(run.config)
    defaults = flatten(ProjectConfig.parse({"project": "x", "data": {"source": ""}}).to_dict())
    shown = {n: v for n, v in settings.items() if everything or v != defaults.get(n)}
    return {name: str(value) for name, value in shown.items()} or {"none": "all are at their defaults"}
