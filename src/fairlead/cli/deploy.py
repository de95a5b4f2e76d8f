"""`fairlead deploy`: put a version on a cluster that no GitOps looks after."""

import sys
from functools import partial
from typing import Annotated

import typer

from fairlead.cli.output import JsonOption, print_json
from fairlead.errors import ConfigError


def deploy(
    ref: Annotated[str, typer.Argument(metavar="MODEL", help="project, project:3 or project@champion.")],
    direct: Annotated[
        bool, typer.Option("--direct", help="Apply it to the cluster that the kubeconfig names.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds until it must answer.")] = 600,
    storage_container: Annotated[
        str, typer.Option("--storage-container", help="Name of the ClusterStorageContainer that fetches it.")
    ] = "fairlead-s3",
    priority_class: Annotated[
        str, typer.Option("--priority-class", help="Name of the PriorityClass of its pods.")
    ] = "fairlead-serving",
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that another manager applied.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Apply the InferenceService of a version and wait until it answers as that version; else take it back."""
    if not direct:
        raise ConfigError("deploy: with GitOps use fairlead promote; to apply to the cluster yourself add --direct")
    from fairlead import places
    from fairlead.cluster.api_server import ApiServer
    from fairlead.cluster.deployment import deploy as put
    from fairlead.cluster.inference_service import Shared
    from fairlead.names import ModelRef
    from fairlead.registry import open_registry

    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse(ref))
    server = ApiServer.connect("deploy: it", "name one by KUBECONFIG")
    root = f"{places.store_url().rstrip('/')}/models"
    wanted = (server, version.project, version.number, root, timeout, partial(print, file=sys.stderr))
    shared = Shared(storage_container, priority_class)
    answer = put(*wanted, digest=version.digest, shared=shared, force_conflicts=force_conflicts)
    if as_json:
        print_json({"project": version.project, "version": answer.version, "namespace": server.namespace})
    else:
        print(f"{answer.version} answers in namespace {server.namespace}")
