"""`fairlead registry`: care of the registry's database."""

from typing import Annotated

import typer

from fairlead.cli.output import JsonOption, print_json

app = typer.Typer(
    help="The registry's database: bring its tables up to date, export what it knows.", no_args_is_help=True
)


@app.command()
def upgrade(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the tables, or bring them to this release; whatever opens the registry does the same."""
    from fairlead import places
    from fairlead.registry.database import Database
    from fairlead.registry.migration import current_revision, migrate
    from fairlead.registry.tables import HEAD

    database = Database(places.registry_url())
    try:
        with database.reading() as connection:
            before = current_revision(connection)
        if not dry_run:
            migrate(database)
    finally:
        database.close()
    if as_json:
        print_json({"registry": database.url, "from": before, "to": HEAD, "dry_run": dry_run})
        return
    verb = "would be" if dry_run else "is"
    state = "is up to date" if before == HEAD else f"{verb} upgraded from {before or 'nothing'}"
    print(f"{database.url}: {state}, at {HEAD}")


@app.command()
def export(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free port.")] = 9108,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve what the registry knows of runs and versions as Prometheus metrics, until Ctrl-C."""
    import signal
    import threading

    from prometheus_client import CollectorRegistry, start_http_server

    from fairlead.cluster.exporter import RegistryCollector
    from fairlead.errors import ConfigError
    from fairlead.registry import open_registry

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    collected = CollectorRegistry()
    with open_registry() as registry:
        collected.register(RegistryCollector(registry))
        try:
            server, thread = start_http_server(port, host, collected)
        except OSError as error:
            raise ConfigError(f"--port: {host}:{port} cannot be bound ({error.strerror}); choose another") from error
        print(f"http://{host}:{server.server_address[1]}/metrics", flush=True)
        stopping.wait()
        server.shutdown()
        thread.join()
