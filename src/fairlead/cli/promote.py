"""`fairlead promote` and `fairlead rollback`: propose what an environment serves, as a commit on a branch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.cli.output import JsonOption, print_json
from fairlead.errors import ConfigError

if TYPE_CHECKING:
    from fairlead.cluster.gitops import Repository
    from fairlead.cluster.promotion import Proposal

EnvironmentOption = Annotated[str, typer.Option("--to", help="Environment: a folder of manifests/overlays.")]
RepositoryOption = Annotated[Path, typer.Option("--repository", help="Checkout with the manifests. Default: this one.")]
BaseOption = Annotated[str, typer.Option("--base", help="Branch or commit that the change starts from.")]
PushOption = Annotated[str | None, typer.Option("--push", metavar="REMOTE", help="Push the branch there.")]


def promote(
    project: Annotated[str, typer.Argument(help="The project.")],
    version: Annotated[str, typer.Argument(help="Number or alias of the version: 3, v3, champion.")],
    to: EnvironmentOption = "prod",
    canary: Annotated[
        int | None, typer.Option("--canary", metavar="PERCENT", help="Give it a part of the traffic only, 1 to 99.")
    ] = None,
    repository: RepositoryOption = Path(),
    base: BaseOption = "HEAD",
    push: PushOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose that an environment serves a version: one changed line on a branch, with the scores in its message."""
    from fairlead.cluster.gitops import Repository
    from fairlead.cluster.promotion import promote as propose
    from fairlead.names import ModelRef
    from fairlead.registry import open_registry

    found = Repository(repository)
    ref = ModelRef.parse(f"{project}:{version}" if version.lstrip("v").isdigit() else f"{project}@{version}")
    with open_registry() as registry:
        number = registry.resolve(ref).number
        proposal = propose(registry, found, project, number, to, base, canary)
    _say(found, proposal, project, to, push, as_json)


def rollback(
    project: Annotated[str, typer.Argument(help="The project.")],
    to: EnvironmentOption = "prod",
    repository: RepositoryOption = Path(),
    base: BaseOption = "HEAD",
    push: PushOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose what an environment served before; with a canary, that it ends."""
    from fairlead.cluster.gitops import Repository
    from fairlead.cluster.promotion import roll_back
    from fairlead.names import check_project
    from fairlead.registry import open_registry

    found = Repository(repository)
    with open_registry() as registry:
        proposal = roll_back(registry, found, check_project(project), to, base)
    _say(found, proposal, project, to, push, as_json)


def _say(
    repository: "Repository", proposal: "Proposal", project: str, environment: str, push: str | None, as_json: bool
) -> None:
    if push is not None and proposal.commit:
        if push.startswith("-"):
            raise ConfigError(f"--push: {push!r} is not a remote; name one, such as origin")
        repository.push(push, proposal.branch)
    if as_json:
        print_json(vars(proposal) | {"project": project, "environment": environment, "pushed": push})
    elif proposal.commit is None:
        print(f"{environment} serves {project}_v{proposal.after} already; nothing to do")
    else:
        print(proposal.diff, end="")
        print(f"\nbranch {proposal.branch}: merge it, and {environment} follows")
