"""`fairlead serve`: answer requests with a model version."""

import os
import sys
from typing import Annotated

import typer

from fairlead.errors import ConfigError


def serve(
    ref: Annotated[str, typer.Argument(metavar="MODEL", help="project, project:3 or project@champion.")],
    http_port: Annotated[int, typer.Option("--http-port", min=0, max=65535, help="0: a free port.")] = 8080,
    grpc_port: Annotated[int, typer.Option("--grpc-port", min=0, max=65535, help="0: a free port.")] = 8081,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve a model version over KServe V1, V2 REST and V2 gRPC, until Ctrl-C."""
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.cli.served import server_command
    from fairlead.names import ModelRef
    from fairlead.registry import open_registry
    from fairlead.registry.fetching import fetch_version

    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse(ref))
    if version.manifest.training.writes_text:
        raise ConfigError(
            f"{version.name}: it is a language model, and the server answers for classifiers only; "
            f"continue a prompt with fairlead predict {version.project} --prompt ..."
        )
    # The server finds the version on this machine: its own download would have nobody to draw it.
    with Display([], sys.stderr) as display, relayed(display.on_event):
        fetch_version(f"{version.project}:{version.number}")
    print(f"serving {version.name}; Ctrl-C stops it", file=sys.stderr, flush=True)
    command = server_command(f"{version.project}:{version.number}", http_port, grpc_port, host)
    # The server takes this process's place, so that signals and the exit code are its own.
    os.execv(command[0], command)  # noqa: S606
