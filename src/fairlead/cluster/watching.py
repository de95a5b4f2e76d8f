"""Everything that happens to some objects, in one queue: list, watch, and list again when the watch is lost."""

import queue
import random
import threading
import time
from collections.abc import Callable

from fairlead.cluster.api_server import PATIENCE_SECONDS, ApiServer, Gone, Object, items
from fairlead.errors import ClusterError, FairleadError

DELETED = "DELETED"
FAILED = "FAILED"


class News:
    """One piece of news: what kind of object it is about, what happened, and the object."""

    def __init__(self, about: str, event: str, found: Object | None = None, error: FairleadError | None = None) -> None:
        self.about, self.event, self.found, self.error = about, event, found or {}, error


Inbox = queue.SimpleQueue[News]


def watch(
    api: ApiServer,
    about: str,
    path: str,
    inbox: Inbox,
    stopped: threading.Event,
    found: Object | None = None,
    **selector: str,
) -> None:
    """Put what happens to the objects that `selector` chooses into `inbox`, from a thread of its own.

    `found` is one that was there before: if it is gone by the first look, that is told.
    After a lost watch everything is listed again, and what is no longer there is told as deleted. A
    server that is away for a minute, or refuses, ends this with FAILED and the error.
    """

    def run() -> None:
        known: dict[str, Object] = {found["metadata"]["uid"]: found} if found else {}
        lost_since: float | None = None
        while not stopped.is_set():
            try:
                version = _list(api, about, path, inbox, known, selector)
                lost_since = None
                _follow(api, about, path, inbox, known, selector, version, stopped)
            except Gone:
                continue
            except ClusterError as error:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > PATIENCE_SECONDS:
                    inbox.put(News(about, FAILED, error=error))
                    return
            except FairleadError as error:
                inbox.put(News(about, FAILED, error=error))
                return
            # Not all watchers of a server that came back at the same moment.
            stopped.wait(random.uniform(0.2, 1.0))  # noqa: S311

    threading.Thread(target=run, daemon=True, name=f"watch {about}").start()


def _list(
    api: ApiServer, about: str, path: str, inbox: Inbox, known: dict[str, Object], selector: dict[str, str]
) -> str:
    found = api.get(path, **selector)
    now = {o["metadata"]["uid"]: o for o in items(found)}
    for uid in known.keys() - now.keys():
        inbox.put(News(about, DELETED, known.pop(uid)))
    for uid, o in now.items():
        known[uid] = o
        inbox.put(News(about, "ADDED", o))
    return str(found["metadata"]["resourceVersion"])


def _follow(
    api: ApiServer,
    about: str,
    path: str,
    inbox: Inbox,
    known: dict[str, Object],
    selector: dict[str, str],
    version: str,
    stopped: threading.Event,
) -> None:
    """Watch until the server ends the watch; then watch on from the last version seen, without listing."""
    while not stopped.is_set():
        for event, found in api.watch(path, version, **selector):
            version = str(found["metadata"]["resourceVersion"])
            if event == "BOOKMARK":
                continue
            uid = found["metadata"]["uid"]
            if event == DELETED:
                known.pop(uid, None)
            else:
                known[uid] = found
            inbox.put(News(about, event, found))


def tail(api: ApiServer, pod: str, inbox: Inbox, stopped: threading.Event, tell: Callable[[str], None]) -> None:
    """Tell each line of a pod's log as it comes, from a thread of its own, until the pod has no more to say.

    A cut connection is taken up after the last line's time.
    """
    path = f"/api/v1/namespaces/{api.namespace}/pods/{pod}/log"

    def run() -> None:
        last = ""
        for _ in range(100):
            try:
                told, since = last, {"sinceTime": last} if last else {}
                for line in api.lines(path, follow="true", timestamps="true", **since):
                    last, _, text = line.partition(" ")
                    if _nanoseconds(last) > _nanoseconds(told):
                        tell(text)
                return
            except ClusterError:
                if stopped.wait(1.0):
                    return
            except FairleadError:
                return  # the pod is gone, or logs may not be read: what matters is told by its status

    threading.Thread(target=run, daemon=True, name=f"log of {pod}").start()


def _nanoseconds(stamp: str) -> str:
    """A time of RFC 3339 with all nine digits, so that later ones sort after: Go leaves out zeros at the end."""
    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"


def last_lines(api: ApiServer, pod: str, count: int) -> list[str]:
    """The last lines of a pod's log; none when it is gone or may not be read."""
    path = f"/api/v1/namespaces/{api.namespace}/pods/{pod}/log"
    try:
        return list(api.lines(path, tailLines=count))
    except FairleadError:
        return []
