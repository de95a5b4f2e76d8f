"""A version that was applied, followed until the endpoint itself answers as that version, or cannot."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fairlead.cluster.api_server import ApiServer, Object
from fairlead.cluster.endpoint import Answering, Ask
from fairlead.cluster.inference_service import API_VERSION, served_uri, unready
from fairlead.cluster.trouble import SERVICE_LABEL, newest_first, trouble
from fairlead.cluster.watching import DELETED, FAILED, Inbox, News, watch
from fairlead.errors import ClusterError, Conflict, IntegrityError

SECONDS_BETWEEN_LOOKS = 1.0
# What is fatal must last so many looks, or a pod that is being replaced would be taken for it.
LOOKS_TO_BE_SURE = 3
SERVICE, PODS, EVENTS = "InferenceService", "pods", "events"

Say = Callable[[str], None]


class Superseded(Conflict):
    """Someone else has applied another version meanwhile; theirs is not ours to take back."""


@dataclass(frozen=True)
class Target:
    """The version that is to answer."""

    name: str
    """Of the InferenceService."""
    version: str
    """As the endpoint says it: `support_topics_v3`."""
    uri: str
    """`spec.predictor.model.storageUri`."""
    digest: str | None
    """The digest that the registry has; None where it is not known."""
    ask: Ask
    blocked: Callable[[], str] = lambda: ""
    """Why `ask` did not reach a pod that is ready; empty when it did, or none is."""

    def is_answered_by(self, found: Answering | None) -> bool:
        """Whether this very version answers. Raises IntegrityError when it has the name and another digest."""
        if found is None or found.version != self.version:
            return False
        if self.digest is not None and found.digest is None:
            raise IntegrityError(f"{self.version} answers without its digest; serve it with an image of this release")
        if self.digest is not None and found.digest != self.digest:
            raise IntegrityError(
                f"{self.version} answers with digest {found.digest}, and the registry has {self.digest}; "
                "run fairlead store verify"
            )
        return True


@dataclass
class _Seen:
    """What the watches have told so far."""

    service: Object = field(default_factory=dict)
    found: dict[str, dict[str, Object]] = field(default_factory=lambda: {SERVICE: {}, PODS: {}, EVENTS: {}})

    def take(self, news: News, target: Target) -> None:
        known = self.found[news.about]
        known.pop(news.found["metadata"]["uid"], None)
        if news.event != DELETED:
            known[news.found["metadata"]["uid"]] = news.found
        if news.about == SERVICE:
            self._take_service(news, target)

    def _take_service(self, news: News, target: Target) -> None:
        if news.event == DELETED:
            raise Superseded(f"InferenceService {target.name} was deleted by someone else; see who, then run again")
        if served_uri(news.found) != target.uri:
            raise Superseded(
                f"someone else applied {served_uri(news.found)} meanwhile, which is left as it is; "
                "see who, then run again"
            )
        self.service = news.found


def wait_until_served(server: ApiServer, target: Target, timeout_seconds: float, say: Say) -> Answering:
    """Follow the InferenceService, its pods and the namespace's warnings until `target` is Ready and answers itself.

    Ready alone is also said while the version before goes on answering, and an answer alone while another replica is
    still starting. Raises ClusterError with the reason when it cannot come up or `timeout_seconds` are over,
    Superseded when someone else applied another version, IntegrityError when the digest differs.
    """
    deadline, seen, reason, sure = time.monotonic() + timeout_seconds, _Seen(), "", float("inf")
    with _watched(server, target.name) as inbox:
        while True:
            for news in _waited_for(inbox, SECONDS_BETWEEN_LOOKS):
                _take(news, seen, target, say)
            found = target.ask()
            if target.is_answered_by(found) and seen.service and not unready(seen.service):
                assert found is not None
                return found
            pods, events = newest_first(seen.found[PODS].values()), [*seen.found[EVENTS].values()]
            why, is_fatal = trouble(server, pods, events, target.name)
            why = why or target.blocked()
            if why and why != reason:
                say(why)
            lasting = min(sure, time.monotonic() + LOOKS_TO_BE_SURE * SECONDS_BETWEEN_LOOKS)
            reason, sure = why, lasting if is_fatal else float("inf")
            if time.monotonic() > sure:
                raise ClusterError(reason)
            if time.monotonic() > deadline:
                raise ClusterError(_overdue(target, found, seen, timeout_seconds, reason))


def _overdue(target: Target, found: Answering | None, seen: _Seen, seconds: float, reason: str) -> str:
    if target.is_answered_by(found):
        return f"it answers, and {unready(seen.service)} after {seconds:.0f} s"
    other = f"the endpoint still answers as {found.version}" if found else "the endpoint does not answer"
    # No pod may say anything because there is none: then KServe says why, or is not there.
    reason = reason or unready(seen.service)
    return f"{other} after {seconds:.0f} s" + (f" ({reason})" if reason else "")


@contextmanager
def _watched(server: ApiServer, name: str) -> Iterator[Inbox]:
    """Within the block, everything that happens to a model comes into the queue, through lost watches too."""
    inbox, stopped = Inbox(), threading.Event()
    core, custom = (f"/{root}/namespaces/{server.namespace}" for root in ("api/v1", f"apis/{API_VERSION}"))
    watch(server, SERVICE, f"{custom}/inferenceservices", inbox, stopped, fieldSelector=f"metadata.name={name}")
    watch(server, PODS, f"{core}/pods", inbox, stopped, labelSelector=f"{SERVICE_LABEL}={name}")
    watch(server, EVENTS, f"{core}/events", inbox, stopped, fieldSelector="type=Warning")
    try:
        yield inbox
    finally:
        stopped.set()


def _waited_for(inbox: Inbox, seconds: float) -> Iterator[News]:
    """Everything that is there; when there is nothing, what comes first within `seconds`."""
    try:
        yield inbox.get(timeout=seconds)
        while True:
            yield inbox.get_nowait()
    except queue.Empty:
        return


def _take(news: News, seen: _Seen, target: Target, say: Say) -> None:
    if news.event != FAILED:
        seen.take(news, target)
    elif news.about == SERVICE and news.error is not None:
        raise news.error
    else:
        # Pods and events explain; whether the version answers can be seen without them.
        say(f"what keeps it from running cannot be seen: {news.error}")
