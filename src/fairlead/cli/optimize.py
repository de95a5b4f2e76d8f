"""`fairlead optimize`: the variants of a registered version, measured for a target; and how they are printed."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fairlead.cli.output import JsonOption, heading, print_json, print_pairs, print_table

if TYPE_CHECKING:
    from fairlead.formats.variants import OptimizationRecord

STDERR = 2


def optimize(
    ref: Annotated[str, typer.Argument(help="project, project:3 or project@champion.")],
    target: Annotated[
        Literal["auto", "cpu", "gpu", "edge"] | None, typer.Option("--target", help="What the model is to serve on.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of optimization, such as max_drop=0.005.", metavar="NAME=VALUE"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure anew, though the same was asked before: another new version.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the variants of a version, pick the one to serve, and register the result as a new version."""
    from fairlead.config import apply_overrides
    from fairlead.names import ModelRef
    from fairlead.optimization.config import OptimizationConfig
    from fairlead.registry import open_registry

    settings = apply_overrides({"target": target} if target else {}, overrides or [])
    OptimizationConfig.parse(settings, where="optimization")
    with open_registry() as registry:
        # Before a process that takes seconds to import torch is told of it.
        registry.resolve(ModelRef.parse(ref))
    outcome = _run({"ref": ref, "settings": settings, "again": again})
    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse(outcome["version"]))
    record = version.manifest.optimization
    if as_json:
        print_json({"version": version.name, "report": outcome["report"], "optimization": record and record.to_dict()})
        return
    print_pairs({"version": version.name, "digest": version.digest, "report": outcome["report"]})
    if record:
        print_optimization(record)


def print_optimization(record: "OptimizationRecord") -> None:
    """The precision table, which variant serves and why, and how probabilities are read."""
    from fairlead.optimization.table import rows, speeds, summary

    heading("variants")
    print_table(rows(record), "none")
    if shapes := speeds(record):
        heading("p50 / p99 ms of a batch, texts x tokens")
        print_table(shapes, "none")
    print_pairs(summary(record) | {f"no {name}": reason for name, reason in sorted(record.refused.items())})


def _run(request: dict[str, Any]) -> dict[str, Any]:
    """What came of the request, in a process of its own. Raises the error that it ended with."""
    from fairlead import errors, orphans
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.formats.atomic import write_json

    with tempfile.TemporaryDirectory(prefix="fairlead-optimize-") as folder:
        source, target = Path(folder, "request.json"), Path(folder, "result.json")
        write_json(source, request)
        command = [sys.executable, "-m", "fairlead.optimization.again", str(source), str(target)]
        with Display([], sys.stderr) as display, relayed(display.on_event):
            # By its number: whoever calls this as a function may have put another object in the place of sys.stderr.
            environment = {**os.environ, **orphans.environment()}
            done = subprocess.run(command, env=environment, stdout=STDERR, check=False)
        if not target.is_file():
            raise errors.FairleadError(f"optimize: it ended with exit code {done.returncode}; run it again")
        outcome: dict[str, Any] = json.loads(target.read_text("utf-8"))
    if "version" not in outcome:
        raise getattr(errors, outcome["kind"])(outcome["message"])
    return outcome
