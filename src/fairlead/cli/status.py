"""`fairlead status`: does what answers agree with what was decided?"""

from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.output import JsonOption, print_json, print_pairs


def status(
    project: Annotated[str, typer.Argument(help="The project.")],
    to: Annotated[str | None, typer.Option("--to", help="Also compare with what git says of this environment.")] = None,
    repository: Annotated[Path, typer.Option("--repository", help="Checkout with the manifests.")] = Path(),
    base: Annotated[str, typer.Option("--base", help="Branch or commit that the cluster follows.")] = "HEAD",
    as_json: JsonOption = False,
) -> None:
    """Say which version git wants, the cluster has and the endpoint serves; exit 1 when they differ."""
    from fairlead.cluster.api_server import ApiServer
    from fairlead.cluster.gitops import Repository
    from fairlead.cluster.state import state
    from fairlead.names import check_project

    server = ApiServer.connect("status: it", "name one by KUBECONFIG")
    found = state(server, check_project(project), Repository(repository) if to else None, to or "", base)
    if as_json:
        print_json(vars(found) | {"project": project, "differences": found.differences})
    else:
        shown = {"git": found.desired, "cluster": found.applied, "endpoint": found.answering}
        print_pairs({name: version or "nothing" for name, version in shown.items() if name != "git" or to})
        for line in found.differences:
            print(line)
    if found.differences:
        raise typer.Exit(1)
