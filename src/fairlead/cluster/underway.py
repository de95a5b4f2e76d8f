"""What was served before a deployment that is under way, kept in the cluster: a step that is killed and run again
would take what it had itself applied for what served before.

It is a ConfigMap beside the InferenceService and not an annotation of it, which would restart the model's pods.
"""

import json

from fairlead.cluster.api_server import ApiServer, Object
from fairlead.cluster.inference_service import served_uri
from fairlead.errors import NotFound
from fairlead.names import PROJECT_LABEL


def before(server: ApiServer, name: str, present: Object | None) -> Object | None:
    """What was served before: what is `present`, or what was before that when a deployment of it was not ended."""
    try:
        data = server.get(_path(server, name))["data"]
    except NotFound:
        return _kept(present)
    if present is None or served_uri(present) != data["storageUri"]:
        # It was ended, or others have been here since.
        return _kept(present)
    found: Object | None = json.loads(data["before"])
    return found


def note(server: ApiServer, name: str, project: str, uri: str, found: Object | None) -> None:
    """Write down that `uri` is being deployed in the place of `found`."""
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _name(name), "labels": {"app.kubernetes.io/part-of": "fairlead", PROJECT_LABEL: project}},
        "data": {"storageUri": uri, "before": json.dumps(found, sort_keys=True)},
    }
    server.apply(_path(server, name), body, force=True)


def forget(server: ApiServer, name: str) -> None:
    """The deployment has ended."""
    server.delete(_path(server, name))


def _kept(found: Object | None) -> Object | None:
    """Of an InferenceService, what an apply can bring back."""
    if found is None:
        return None
    metadata = {key: found["metadata"][key] for key in ("labels", "annotations") if key in found["metadata"]}
    return {"metadata": {"name": found["metadata"]["name"], **metadata}, "spec": found["spec"]}


def _name(name: str) -> str:
    return f"{name}-deployment-under-way"


def _path(server: ApiServer, name: str) -> str:
    return f"/api/v1/namespaces/{server.namespace}/configmaps/{_name(name)}"
