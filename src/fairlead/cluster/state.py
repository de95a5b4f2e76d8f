"""What is desired, what the cluster has, and what really answers: three places that ought to say the same version."""

from dataclasses import dataclass

from fairlead.cluster.api_server import ApiServer
from fairlead.cluster.deployment import present
from fairlead.cluster.endpoint import Endpoint
from fairlead.cluster.gitops import Repository
from fairlead.cluster.inference_service import served_uri, unready
from fairlead.cluster.promotion import read_release
from fairlead.cluster.releases import version_at
from fairlead.cluster.trouble import pods_of, trouble, warnings_of
from fairlead.names import kubernetes_name, version_name


@dataclass(frozen=True)
class State:
    """One model in one environment, by version name; None where there is none."""

    desired: str | None
    """What git says; None when it was not asked."""
    applied: str | None
    """What the InferenceService in the cluster names."""
    answering: str | None
    """What the endpoint says of itself."""
    trouble: str
    """Why the newest pod does not run, what KServe still waits for, or why the endpoint cannot be asked; else empty."""

    @property
    def differences(self) -> list[str]:
        """What does not agree, a sentence each; none when all is well."""
        found = []
        if self.applied is None:
            found.append("the cluster has no InferenceService of this name")
        elif self.desired not in (None, self.applied):
            found.append(f"git says {self.desired} and the cluster has {self.applied}: it has not followed yet")
        if self.applied is not None and self.answering is None:
            found.append("the endpoint does not answer")
        elif self.answering != self.applied:
            found.append(f"the cluster has {self.applied} and {self.answering} answers: the rollout is not over")
        return [*found, self.trouble] if self.trouble else found


def state(
    server: ApiServer, project: str, repository: Repository | None = None, environment: str = "", base: str = "HEAD"
) -> State:
    """Look in all three places; `repository` None leaves git out.

    Raises NotFound when the overlay of `environment` has no such model.
    """
    desired = None
    if repository is not None:
        desired = version_name(project, read_release(repository, base, environment, project).number)
    name = kubernetes_name(project)
    endpoint = Endpoint(server, project)
    found, answer = present(server, name), endpoint.ask()
    uri = served_uri(found) if found else None
    # An address that is not of our form is shown as it is.
    applied = uri if uri is None else version_at(uri) or uri
    why = ""
    if found:
        why = trouble(server, pods_of(server, name), warnings_of(server), name)[0] or unready(found) or endpoint.blocked
    return State(desired, applied, answer.version if answer else None, why)
