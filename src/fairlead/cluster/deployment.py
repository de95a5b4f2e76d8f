"""A version put on a cluster without GitOps: applied, waited for until it answers, taken back when it does not.

    note what serves ──► apply ──► follow until this very version answers ──► forget the note
                                   └─ cannot, or too late ──► apply what served, wait for it ──┘

The same again changes nothing. Killed anywhere and run again it goes on from where it was: the note tells what served.
"""

import time

from fairlead.cluster import underway
from fairlead.cluster.api_server import ApiServer, Object
from fairlead.cluster.endpoint import Answering, Ask, Endpoint
from fairlead.cluster.inference_service import API_VERSION, SHARED, Shared, inference_service, served_uri
from fairlead.cluster.releases import version_at
from fairlead.cluster.rollout import SECONDS_BETWEEN_LOOKS, Say, Superseded, Target, wait_until_served
from fairlead.errors import ClusterError, Conflict, FairleadError, NotFound
from fairlead.names import kubernetes_name, version_name


def deploy(
    server: ApiServer,
    project: str,
    number: int,
    root: str,
    timeout_seconds: float,
    say: Say = lambda line: None,
    *,
    digest: str | None = None,
    ask: Ask | None = None,
    shared: Shared = SHARED,
    force_conflicts: bool = False,
) -> Answering:
    """Serve a version and wait until the endpoint itself answers as that version; the same again changes nothing.

    `root` is the store's `s3://.../models`; with `digest` the answer must have it; `ask` asks the endpoint, by default
    through the API server. When it does not come up within `timeout_seconds`, or cannot, what was served before is
    applied again and waited for, and ClusterError says why. Raises Conflict when the fields belong to another manager
    and `force_conflicts` is not set, or when someone else applies another version meanwhile.
    """
    wanted, name = inference_service(project, number, root, shared), kubernetes_name(project)
    endpoint = Endpoint(server, project)
    version, uri = version_name(project, number), served_uri(wanted)
    target = Target(name, version, uri, digest, ask or endpoint.ask, lambda: endpoint.blocked)
    before = underway.before(server, name, present(server, name))
    underway.note(server, name, project, target.uri, before)
    try:
        server.apply(_path(server, name), wanted, force=force_conflicts)
    except Conflict as error:
        underway.forget(server, name)
        raise _owned(name, error) from error
    except FairleadError:
        underway.forget(server, name)
        raise
    say(f"applied InferenceService {server.namespace}/{name} with {target.version}")
    return _finish(server, target, before, timeout_seconds, say)


def present(server: ApiServer, name: str) -> Object | None:
    """The InferenceService of this name."""
    try:
        return server.get(_path(server, name))
    except NotFound:
        return None


def _finish(server: ApiServer, target: Target, before: Object | None, timeout_seconds: float, say: Say) -> Answering:
    """Wait for what was applied, or take it back."""
    try:
        answer = wait_until_served(server, target, timeout_seconds, say)
    except Superseded as error:
        underway.forget(server, target.name)
        raise Superseded(f"deploy: {target.version}: {error}") from error
    except FairleadError as error:
        try:
            restored = _take_back(server, target, before, timeout_seconds)
        except FairleadError as second:
            raise ClusterError(
                f"deploy: {target.version}: {error}; taking it back failed too ({second}), run again"
            ) from error
        raise type(error)(f"deploy: {target.version}: {error}; {restored}") from error
    except BaseException:
        # Told to end, with seconds left: what served is applied, and not waited for.
        _restore(server, target, before)
        raise
    underway.forget(server, target.name)
    return answer


def _take_back(server: ApiServer, target: Target, before: Object | None, timeout_seconds: float) -> str:
    """Bring back what served, and wait until it answers; what was done, in words."""
    _restore(server, target, before)
    if before is None:
        return "nothing was served before, so it was removed again"
    uri = served_uri(before)
    if uri == target.uri:
        return "nothing else was served before, so it was left as it was"
    version, deadline = version_at(uri), time.monotonic() + timeout_seconds
    while True:
        found = target.ask()
        # An address that is not of our form tells no name.
        if found is not None and version in (None, found.version):
            return f"{uri} is served again"
        if time.monotonic() > deadline:
            return f"{uri} is applied again, and does not answer yet; see fairlead status"
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _restore(server: ApiServer, target: Target, before: Object | None) -> None:
    path = _path(server, target.name)
    if before is None:
        server.delete(path)
    else:
        server.apply(path, {"apiVersion": API_VERSION, "kind": "InferenceService", **before}, force=True)
    underway.forget(server, target.name)


def _owned(name: str, error: Conflict) -> Conflict:
    return Conflict(
        f"deploy: InferenceService {name} is managed by someone else ({error}); propose the version to git instead "
        "(fairlead promote, deploy.mode gitops), or take the fields over with --force-conflicts"
    )


def _path(server: ApiServer, name: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{server.namespace}/inferenceservices/{name}"
