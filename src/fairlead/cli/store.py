"""`fairlead store`: care of the object store."""

import re
import sys
from typing import Annotated

import typer

from fairlead.cli.output import JsonOption, print_json, print_table
from fairlead.errors import ConfigError, Conflict

app = typer.Typer(help="The object store: remove what was left behind, verify what is there.", no_args_is_help=True)

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command()
def gc(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Leave younger ones alone: 30m, 1h, 2d.")
    ] = "1h",
    unused_for: Annotated[
        str,
        typer.Option("--unused-for", metavar="AGE", help="Leave logs and cached outputs used since then alone."),
    ] = "30d",
    predictions_older_than: Annotated[
        str | None,
        typer.Option("--predictions-older-than", metavar="AGE", help="Remove the prediction log of before that: 90d."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what nothing needs: killed registrations, what finished runs left, old logs and outputs of stages.

    The prediction log is left alone unless an age is given for it.

    What a version names in its settings stays, and so does what failed runs go on from.
    """
    from fairlead import places
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.registry import open_registry
    from fairlead.registry.collection import collect_garbage, settings_of_versions
    from fairlead.storage import open_store

    age, unused = duration(older_than, "--older-than"), duration(unused_for, "--unused-for")
    store = open_store(places.store_url())
    with Display([], sys.stderr) as display, relayed(display.on_event), open_registry() as registry:
        report = collect_garbage(registry, store, age, dry_run)
        named = settings_of_versions(registry)
    removed, kept = report.removed, dict.fromkeys(report.kept, "young, or being uploaded")
    _prune(named, unused, dry_run, removed, kept)
    if predictions_older_than is not None:
        from fairlead.predictions.finding import remove_older

        removed |= remove_older(store, duration(predictions_older_than, "--predictions-older-than"), dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "removed": removed, "kept": list(kept)})
        return
    verb = "would be removed" if dry_run else "removed"
    rows = [{"what": name, "objects": count, "": verb} for name, count in removed.items()]
    rows += [{"what": name, "objects": None, "": f"kept: {reason}"} for name, reason in kept.items()]
    print_table(rows, "nothing to remove")


@app.command()
def verify(
    project: Annotated[str | None, typer.Argument(help="The project. Default: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold every file of every registered version against its digest; exit 2 when one is missing or differs."""
    from dataclasses import asdict

    from fairlead import places
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.errors import IntegrityError
    from fairlead.registry import open_registry
    from fairlead.registry.verification import verify_versions

    with Display([], sys.stderr) as display, relayed(display.on_event), open_registry() as registry:
        found = list(verify_versions(registry, places.store_url(), project))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        rows = [
            {"version": v.version, "files": v.files, "bytes": v.size_bytes, "": v.problem or "whole"} for v in found
        ]
        print_table(rows, "no model version yet")
    if broken := [one.version for one in found if one.problem]:
        raise IntegrityError(f"store: {len(broken)} of {len(found)} versions differ ({broken[0]}); restore them")


def _prune(named: str, unused: float, dry_run: bool, removed: dict[str, int], kept: dict[str, str]) -> None:
    """Prune this machine's home; while a run goes on there it is kept whole."""
    from fairlead.cluster.pruning import LOGS, PIPELINE, prune

    try:
        removed |= prune(named, unused, dry_run)
    except Conflict:
        kept |= dict.fromkeys((PIPELINE, LOGS), "a run is going on in this home")


def duration(text: str, option: str) -> float:
    """`90`, `30m`, `1h` or `2d` in seconds. Raises ConfigError for anything else."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text.strip())
    if not found:
        raise ConfigError(f"{option}: {text!r} is not an age; write 45s, 30m, 1h or 2d")
    return float(found[1]) * SECONDS[found[2] or "s"]
