"""A version put on a cluster without GitOps: applied, waited for until it answers, taken back when it does not."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from fairlead.cluster.api_server import ApiServer, Object
from fairlead.cluster.inference_service import API_VERSION, SHARED, Shared, inference_service
from fairlead.cluster.trouble import pods_of, trouble
from fairlead.errors import ClusterError, ConfigError, FairleadError, NotFound
from fairlead.names import kubernetes_name, version_name

SECONDS_BETWEEN_LOOKS = 1.0
# What is fatal must be seen so often, or a pod that is being replaced would be taken for it.
LOOKS_TO_BE_SURE = 3


@dataclass(frozen=True)
class Answering:
    """What an endpoint says it serves."""

    version: str
    digest: str | None


def deploy(
    server: ApiServer,
    project: str,
    number: int,
    root: str,
    timeout_seconds: float,
    say: Callable[[str], None] = lambda line: None,
    shared: Shared = SHARED,
) -> Answering:
    """Serve a version and wait until the endpoint itself answers as that version; the same again changes nothing.

    `root` is the store's `s3://.../models`. When it does not come up within `timeout_seconds`, or cannot, what was
    served before is applied again and ClusterError says why.
    """
    wanted = inference_service(project, number, root, shared)
    before = present(server, kubernetes_name(project))
    server.apply(_path(server, kubernetes_name(project)), wanted)
    say(f"applied InferenceService {kubernetes_name(project)} with {version_name(project, number)}")
    try:
        return _wait(server, project, number, timeout_seconds, say)
    except ClusterError as error:
        restored = _take_back(server, project, before)
        raise ClusterError(f"deploy: {version_name(project, number)}: {error}; {restored}") from error


def answering(server: ApiServer, project: str) -> Answering | None:
    """What the endpoint says of itself, asked through the API server; None while it does not answer."""
    name = kubernetes_name(project)
    path = f"/api/v1/namespaces/{server.namespace}/services/{name}-predictor:80/proxy/v2/models/{name}"
    try:
        said = server.get_once(path)
    except ConfigError:
        raise
    except FairleadError:
        return None
    versions = said.get("versions") or []
    return Answering(str(versions[0]), (said.get("parameters") or {}).get("digest")) if versions else None


def present(server: ApiServer, name: str) -> Object | None:
    """The InferenceService of this name."""
    try:
        return server.get(_path(server, name))
    except NotFound:
        return None


def served_uri(found: Object) -> str:
    """The address of the version that an InferenceService names."""
    return str(found["spec"]["predictor"].get("model", {}).get("storageUri", ""))


def _wait(
    server: ApiServer, project: str, number: int, timeout_seconds: float, say: Callable[[str], None]
) -> Answering:
    deadline, reason, fatal_looks = time.monotonic() + timeout_seconds, "", 0
    while True:
        found = answering(server, project)
        if found is not None and found.version == version_name(project, number):
            return found
        seen, is_fatal = trouble(server, pods_of(server, kubernetes_name(project)))
        if seen and seen != reason:
            say(seen)
        reason, fatal_looks = seen, fatal_looks + 1 if is_fatal else 0
        if fatal_looks >= LOOKS_TO_BE_SURE:
            raise ClusterError(reason)
        if time.monotonic() > deadline:
            other = f"the endpoint still answers as {found.version}" if found else "the endpoint does not answer"
            raise ClusterError(f"{other} after {timeout_seconds:.0f} s" + (f" ({reason})" if reason else ""))
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _take_back(server: ApiServer, project: str, before: Object | None) -> str:
    path = _path(server, kubernetes_name(project))
    if before is None:
        server.delete(path)
        return "nothing was served before, so it was removed again"
    # Field by field what this manager had applied; what others own stays theirs.
    kept = {name: before["metadata"][name] for name in ("labels", "annotations") if name in before["metadata"]}
    metadata = {"name": before["metadata"]["name"], **kept}
    server.apply(
        path, {"apiVersion": API_VERSION, "kind": "InferenceService", "metadata": metadata, "spec": before["spec"]}
    )
    return f"{served_uri(before)} is served again"


def _path(server: ApiServer, name: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{server.namespace}/inferenceservices/{name}"
