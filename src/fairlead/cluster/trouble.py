"""Why a model's pods do not run, in one line: scheduling, quota, image, volume, download, probe or crash."""

from collections.abc import Iterable, Sequence

from fairlead.cluster import pods
from fairlead.cluster.api_server import ApiServer, Object, items
from fairlead.errors import FairleadError

SERVICE_LABEL = "serving.kserve.io/inferenceservice"
INITIALIZER = "storage-initializer"
LOG_LINES = 3
# A container that failed so often fails for a reason that stays.
FATAL_RESTARTS = 2
PROBE_REASONS = ("Unhealthy", "ProbeWarning")


def pods_of(server: ApiServer, name: str) -> list[Object]:
    """The pods of an InferenceService, the newest first."""
    path = f"/api/v1/namespaces/{server.namespace}/pods"
    return newest_first(items(server.get(path, labelSelector=f"{SERVICE_LABEL}={name}")))


def newest_first(found: Iterable[Object]) -> list[Object]:
    """Pods by when they were made."""
    return sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True)


def trouble(
    server: ApiServer, found: Sequence[Object], events: Sequence[Object], service: str = ""
) -> tuple[str, bool]:
    """What keeps the newest pod from answering, and whether waiting is in vain; empty when nothing is known to.

    `found` are the model's pods, the newest first, and `events` warnings of the namespace. While there is no pod, the
    warnings about those of the InferenceService `service` count, and all of them when it is empty.
    """
    events = sorted(events, key=_time, reverse=True)
    if not found:
        return _unmade(events, _owner(service) if service else ""), False
    pod = found[0]
    name = pod["metadata"]["name"]
    for container in _statuses(pod):
        if ended := _ended(container):
            which = "download of the model" if container["name"] == INITIALIZER else container["name"]
            log = _last_lines(server, name, container["name"])
            return f"pod {name}: {which} failed ({ended}){log}", container.get("restartCount", 0) >= FATAL_RESTARTS
    reason, message = pods.waits_for(pod)
    if reason:
        return f"pod {name}: {reason}: {message}", reason in pods.STUCK
    labels = pod["metadata"].get("labels") or {}
    since = str(pod["metadata"].get("creationTimestamp") or "")
    # The next pod beside this one; what was said before this one was made is over.
    return _unready(events, name) or _unmade(events, _owner(labels.get(SERVICE_LABEL)), since), False


def _statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _ended(container: Object) -> str:
    """How a container failed last; empty when it did not."""
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        ended = state.get("terminated")
        if ended and ended.get("exitCode"):
            message = " ".join(str(ended.get("message") or "").split())[-300:]
            return f"{ended.get('reason') or 'Error'}, exit code {ended['exitCode']}" + (
                f": {message}" if message else ""
            )
    return ""


def _last_lines(server: ApiServer, pod: str, container: str) -> str:
    path = f"/api/v1/namespaces/{server.namespace}/pods/{pod}/log"
    try:
        lines = [line.strip() for line in server.lines(path, container=container, tailLines=LOG_LINES)]
    except FairleadError:
        # The reason stands without its log.
        return ""
    said = " | ".join(line for line in lines if line)
    return f"; its last lines: {said[-500:]}" if said else ""


def warnings_of(server: ApiServer) -> Sequence[Object]:
    """Warnings of the namespace; none when they may not be read."""
    try:
        return items(server.get(f"/api/v1/namespaces/{server.namespace}/events", fieldSelector="type=Warning"))
    except FairleadError:
        return []


def _owner(service: str | None) -> str:
    """How the names of a model's pods begin, and of what makes them, in every mode of KServe."""
    return f"{service}-predictor"


def _unmade(events: Sequence[Object], owner: str, since: str = "") -> str:
    """Why there is no pod: a quota, a webhook, a missing account; Kubernetes says it in events only."""
    for event in events:
        about = str((event.get("involvedObject") or {}).get("name"))
        is_new = not since or _time(event) > since
        if event.get("reason") == "FailedCreate" and about.startswith(owner) and is_new:
            return f"no pod was made: {_message(event)}"
    return ""


def _unready(events: Sequence[Object], pod: str) -> str:
    for event in events:
        if event.get("reason") in PROBE_REASONS and (event.get("involvedObject") or {}).get("name") == pod:
            return f"pod {pod}: it runs and is not ready: {_message(event)}"
    return ""


def _time(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _message(event: Object) -> str:
    return " ".join(str(event.get("message") or "").split())[:400]
