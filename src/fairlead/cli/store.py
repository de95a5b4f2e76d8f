"""`fairlead store`: care of the object store."""

import re
import sys
from typing import Annotated

import typer

from fairlead.cli.output import JsonOption, print_json, print_table
from fairlead.errors import ConfigError

app = typer.Typer(help="The object store: remove what was left behind.", no_args_is_help=True)

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.callback()
def _options() -> None:
    # With a callback typer keeps `gc` a command of its own.
    pass


@app.command()
def gc(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Leave younger ones alone: 30m, 1h, 2d.")
    ] = "1h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what killed registrations left in the store, which no reader ever saw, and finished runs' checkpoints."""
    from fairlead import places
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.registry import open_registry
    from fairlead.registry.collection import collect_garbage
    from fairlead.storage import open_store

    age = duration(older_than)
    store = open_store(places.store_url())
    with Display([], sys.stderr) as display, relayed(display.on_event), open_registry() as registry:
        report = collect_garbage(registry, store, age, dry_run)
    removed, kept = report.removed, report.kept
    if as_json:
        print_json({"dry_run": dry_run, "removed": removed, "kept": kept})
        return
    verb = "would be removed" if dry_run else "removed"
    rows = [{"version": name, "objects": count, "": verb} for name, count in removed.items()]
    rows += [{"version": name, "objects": None, "": "kept: young, or being uploaded"} for name in kept]
    print_table(rows, "nothing to remove")


def duration(text: str) -> float:
    """`90`, `30m`, `1h` or `2d` in seconds. Raises ConfigError for anything else."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text.strip())
    if not found:
        raise ConfigError(f"--older-than: {text!r} is not an age; write 45s, 30m, 1h or 2d")
    return float(found[1]) * SECONDS[found[2] or "s"]
