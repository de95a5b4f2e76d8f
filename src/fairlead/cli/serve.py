"""`fairlead serve`: answer requests with a model version."""

import os
import sys
from typing import Annotated

import typer


def serve(
    refs: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="project, project:3 or project@champion; NAME=MODEL names it."),
    ],
    http_port: Annotated[int, typer.Option("--http-port", min=0, max=65535, help="0: a free port.")] = 8080,
    grpc_port: Annotated[int, typer.Option("--grpc-port", min=0, max=65535, help="0: a free port.")] = 8081,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    variant: Annotated[
        str | None, typer.Option(help="Variant to run. Default: the one that the version chose.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes, each with its own copy of the models.")] = 1,
    follow: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=86_400, metavar="SECONDS", help="Look so often where an alias points. Default: never."
        ),
    ] = None,
    more: Annotated[
        list[str] | None, typer.Option("--server-option", help="An argument of python -m serving. Repeatable.")
    ] = None,
) -> None:
    """Serve model versions over KServe V1, V2 REST and V2 gRPC, until Ctrl-C."""
    from fairlead.cli.served import server_command

    models = [_fetched(ref, bool(follow)) for ref in refs]
    options = ["--workers", str(workers)]
    options += ["--variant", variant] if variant else []
    options += ["--follow", str(follow)] if follow else []
    command = server_command(models, http_port, grpc_port, host, [*options, *(more or [])])
    # The server takes this process's place, so that signals and the exit code are its own.
    os.execv(command[0], command)  # noqa: S606


def _fetched(given: str, followed: bool) -> str:
    """The version on this machine, as the server finds it there: its own download would have nobody to draw it."""
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.names import ModelRef
    from fairlead.registry import open_registry
    from fairlead.registry.fetching import fetch_version

    name, named, ref = given.rpartition("=")
    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse(ref))
    pinned = f"{version.project}:{version.number}"
    with Display([], sys.stderr) as display, relayed(display.on_event):
        fetch_version(pinned)
    print(f"serving {version.name}; Ctrl-C stops it", file=sys.stderr, flush=True)
    return f"{name}{named}{ref if followed else pinned}"
