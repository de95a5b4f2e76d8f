"""`fairlead registry`: care of the registry's database."""

from typing import Annotated

import typer

from fairlead.cli.output import JsonOption, print_json

app = typer.Typer(help="The registry's database: bring its tables up to date.", no_args_is_help=True)


@app.callback()
def _options() -> None:
    # With a callback typer keeps `upgrade` a command of its own.
    pass


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
