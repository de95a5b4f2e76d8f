"""Have the TrainJob that is wanted: create it, attach to the one that is there, or put a new one in its place.

| found under the name                        | what is done                                            |
|---------------------------------------------|---------------------------------------------------------|
| nothing                                     | create                                                  |
| not made by Fairlead for this run           | Conflict                                                |
| failed, or complete without a model         | delete, create: a step that is run again tries again    |
| the same content, suspended or running      | attach, and end the suspension unless a queue holds it  |
| other content, suspended                    | delete, create: it goes on from the checkpoint          |
| other content, running                      | Conflict: someone else's run of the same training       |
"""

import time

from fairlead.cluster.api_server import ApiServer, Object
from fairlead.cluster.served import GROUP, PLURAL, Served
from fairlead.cluster.trainjob import CONTENT, FOLLOWER, QUEUE_LABEL
from fairlead.errors import ClusterError, Conflict, NotFound
from fairlead.names import RUN_LABEL

# Pods have their grace period to end in.
DELETION_SECONDS = 180.0
POLL_SECONDS = 0.5
# A change between our look and our write, by Trainer's controller or another step.
MAX_RACES = 10


def collection(api: ApiServer, served: Served) -> str:
    """The path of the namespace's TrainJobs."""
    return f"/apis/{GROUP}/{served.version}/namespaces/{api.namespace}/{PLURAL}"


def attach(api: ApiServer, served: Served, wanted: Object) -> Object:
    """The TrainJob `wanted` by name and content, on its way. Raises Conflict when another is in its place."""
    path = collection(api, served)
    for _ in range(MAX_RACES):
        found = find(api, f"{path}/{wanted['metadata']['name']}")
        try:
            if found is None:
                made = api.create(path, wanted)
                print(f"train: created TrainJob {api.namespace}/{_name(made)}", flush=True)
                return made
            if found["metadata"].get("deletionTimestamp") or _is_to_be_replaced(found, wanted):
                _delete(api, path, found)
                continue
            return _take(api, path, found, wanted)
        except Conflict as error:
            # The name was taken, or the object changed, since we looked; what we found ourselves is final.
            if isinstance(error, _Occupied):
                raise
            time.sleep(POLL_SECONDS)
    raise ClusterError(f"TrainJob {_name(wanted)}: it changes all the time; see who else works on it, then run again")


class _Occupied(Conflict):
    """The name is taken by something that is not ours to touch."""


def find(api: ApiServer, path: str) -> Object | None:
    """The object at `path`; None when there is none."""
    try:
        return api.get(path)
    except NotFound:
        return None


def condition(found: Object, kind: str) -> Object | None:
    """A condition of an object's status that is true: `Complete`, `Failed`, `Suspended`."""
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def _is_to_be_replaced(found: Object, wanted: Object) -> bool:
    where = f"TrainJob {_name(found)}"
    if _label(found, RUN_LABEL) != _label(wanted, RUN_LABEL):
        raise _Occupied(f"{where}: it is there and not of this run; delete or rename it")
    if condition(found, "Failed") or condition(found, "Complete"):
        return True
    if _annotation(found, CONTENT) == _annotation(wanted, CONTENT):
        return False
    if found["spec"].get("suspend"):
        return True
    raise _Occupied(
        f"{where}: it runs the same training with other settings (nodes, image or resources); "
        "wait for it or delete it, then run again"
    )


def _take(api: ApiServer, path: str, found: Object, wanted: Object) -> Object:
    """Make this step the one that follows, beside the earlier ones an owner, and let the nodes run."""
    version = found["metadata"]["resourceVersion"]
    owners = {o["uid"]: o for source in (found, wanted) for o in source["metadata"].get("ownerReferences") or []}
    change: Object = {
        "metadata": {
            "resourceVersion": version,
            "annotations": {FOLLOWER: _annotation(wanted, FOLLOWER)},
            "ownerReferences": list(owners.values()),
        }
    }
    resumed = found["spec"].get("suspend") and not _label(found, QUEUE_LABEL)
    if resumed:
        change["spec"] = {"suspend": False}
    taken = api.patch(f"{path}/{_name(found)}", change)
    print(f"train: {'resumed' if resumed else 'attached to'} TrainJob {api.namespace}/{_name(found)}", flush=True)
    return taken


def _delete(api: ApiServer, path: str, found: Object) -> None:
    """Delete a TrainJob and wait until it is gone."""
    where, uid = f"{path}/{_name(found)}", found["metadata"]["uid"]
    if not found["metadata"].get("deletionTimestamp"):
        ended = next((kind for kind in ("Failed", "Complete") if condition(found, kind)), "has other settings")
        print(f"train: TrainJob {_name(found)} ({ended}) gives way to a new one", flush=True)
        api.delete(where)
    deadline = time.monotonic() + DELETION_SECONDS
    while (there := find(api, where)) and there["metadata"]["uid"] == uid:
        if time.monotonic() > deadline:
            raise ClusterError(f"TrainJob {_name(found)}: it is being deleted and does not go; see its finalizers")
        time.sleep(POLL_SECONDS)


def stop(api: ApiServer, served: Served, name: str, follower: str) -> bool:
    """Have the nodes end and keep their state, if `follower` still follows them; whether that was so.

    `suspend` ends the pods with SIGTERM. A queue would start them again at once, so that a TrainJob in
    one is deleted, which ends them the same way; the state is in the store.
    """
    path = f"{collection(api, served)}/{name}"
    for _ in range(MAX_RACES):
        found = find(api, path)
        if found is None or _annotation(found, FOLLOWER) != follower:
            return False
        if _label(found, QUEUE_LABEL):
            api.delete(path)
            return True
        version = found["metadata"]["resourceVersion"]
        try:
            api.patch(path, {"metadata": {"resourceVersion": version}, "spec": {"suspend": True}})
        except NotFound:
            return False
        except Conflict:
            continue
        return True
    return False


def _name(found: Object) -> str:
    return str(found["metadata"]["name"])


def _label(found: Object, key: str) -> str | None:
    return (found["metadata"].get("labels") or {}).get(key)


def _annotation(found: Object, key: str) -> str | None:
    return (found["metadata"].get("annotations") or {}).get(key)
