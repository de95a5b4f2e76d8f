"""Follow a TrainJob to its end, and say in this step's log what happens to its nodes.

The log of node 0 is this step's log; of the others it has the last lines when they fail. The end is
the TrainJob's own, but for what no retry can help: a node that ends with 42 stops it at once,
whatever its runtime would do.
"""

import queue
import threading
import time
from collections.abc import Callable

from fairlead.cluster import pods
from fairlead.cluster.api_server import ApiServer, Object, items
from fairlead.cluster.attaching import collection, condition
from fairlead.cluster.pods import JOBSET_LABEL, End
from fairlead.cluster.served import Served
from fairlead.cluster.trainjob import KUEUE, QUEUE_LABEL
from fairlead.cluster.watching import DELETED, FAILED, Inbox, News, last_lines, tail, watch
from fairlead.errors import ClusterError, ConfigError, FairleadError, NotFound, TrainingError
from fairlead.stage import EXIT_DO_NOT_RETRY

TRAINJOB, POD = "TrainJob", "pod"
LAST_LINES = 20
# A node that starts in less is not worth a word; a reason that has not changed is told again so often.
QUIET_SECONDS, REPEAT_SECONDS = 30.0, 300.0
# An image that cannot be pulled for so long will not come, and the other nodes hold their devices meanwhile.
STUCK_SECONDS = 600.0
TICK_SECONDS = 1.0


class Following:
    """What is known of a TrainJob and its nodes."""

    def __init__(self, api: ApiServer, served: Served, found: Object, stop_requested: Callable[[], bool]) -> None:
        """`stop_requested` says that this step is told to end."""
        self.api, self.served, self.found, self.stop_requested = api, served, found, stop_requested
        self.name, self.num_nodes = found["metadata"]["name"], found["spec"]["trainer"]["numNodes"]
        self.inbox: Inbox = queue.SimpleQueue()
        self.pods: dict[str, Object] = {}
        self.ends: dict[str, tuple[int, End]] = {}
        self._stopped = threading.Event()
        self._phases: dict[str, str] = {}
        self._tailed: set[str] = set()
        self._suspended: bool | None = None
        self._waiting_since = time.monotonic()
        self._told: tuple[str, float] = ("", 0.0)
        self._stuck_since: float | None = None

    def run(self) -> bool:
        """Follow to the end. False when this step was told to end before; raises the reason when it failed."""
        selector = f"metadata.name={self.name}"
        path = collection(self.api, self.served)
        watch(self.api, TRAINJOB, path, self.inbox, self._stopped, self.found, fieldSelector=selector)
        pods_path, label = f"/api/v1/namespaces/{self.api.namespace}/pods", f"{JOBSET_LABEL}={self.name}"
        watch(self.api, POD, pods_path, self.inbox, self._stopped, labelSelector=label)
        try:
            while not self.stop_requested():
                if self._hear():
                    return True
                self._look_at_waiting()
            return False
        finally:
            self._stopped.set()

    def _hear(self) -> bool:
        """Take in what has happened within a second; whether the TrainJob is complete."""
        try:
            news = self.inbox.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return False
        if news.event == FAILED and news.error:
            raise news.error
        return self._hear_trainjob(news) if news.about == TRAINJOB else self._hear_pod(news)

    def _hear_trainjob(self, news: News) -> bool:
        if news.event == DELETED:
            raise ClusterError(f"TrainJob {self.name}: someone deleted it; run again to go on from the last checkpoint")
        self.found = news.found
        if condition(self.found, "Complete"):
            return True
        if failed := condition(self.found, "Failed"):
            self._hear_all_pods()
            raise self.failure(f"{failed['reason']}: {failed['message']}")
        suspended = bool(self.found["spec"].get("suspend"))
        if suspended != (self._suspended or False):
            held = "waits in its queue" if self._queued() else "is suspended by someone: it waits to be resumed"
            self._say(held if suspended else "runs")
        self._suspended = suspended
        return False

    def _hear_pod(self, news: News) -> bool:
        name, node = news.found["metadata"]["name"], pods.index(news.found)
        if news.event == DELETED:
            self.pods.pop(name, None)
        else:
            self.pods[name] = news.found
        self._tell_phase(name, node, "Deleted" if news.event == DELETED else pods.phase(news.found))
        if node == 0 and name not in self._tailed and pods.phase(news.found) != "Pending":
            self._tailed.add(name)
            tail(self.api, name, self.inbox, self._stopped, lambda line: print(line, flush=True))
        if (ended := pods.end(news.found)) and name not in self.ends:
            self._hear_end(name, node, ended)
        return False

    def _tell_phase(self, name: str, node: int, phase: str) -> None:
        if self._phases.get(name) != phase and (phase, self._phases.get(name)) != ("Deleted", "Terminating"):
            self._phases[name] = phase
            machine = (self.pods.get(name, {}).get("spec") or {}).get("nodeName")
            where = f" on {machine}" if machine and phase == "Running" else ""
            self._say(f"node {node} of {self.num_nodes}: pod {name} is {phase.lower()}{where}")

    def _hear_end(self, name: str, node: int, ended: End) -> None:
        self.ends[name] = (node, ended)
        lines = last_lines(self.api, name, LAST_LINES)
        for line in lines:
            print(f"node {node} | {line}", flush=True)
        what = "was taken away by the cluster" if ended.disrupted else "failed"
        self._say(f"node {node}: pod {name} {what} ({ended})")
        if ended.exit_code == EXIT_DO_NOT_RETRY:
            said = next((line[7:] for line in reversed(lines) if line.startswith("error: ")), ended.message)
            raise ConfigError(said or f"TrainJob {self.name}: node {node} ended with {ended}; see its log above")

    def _hear_all_pods(self) -> None:
        """Look once more: the TrainJob's end may be known before those of its pods."""
        path = f"/api/v1/namespaces/{self.api.namespace}/pods"
        for pod in items(self.api.get(path, labelSelector=f"{JOBSET_LABEL}={self.name}")):
            name, ended = pod["metadata"]["name"], pods.end(pod)
            if ended and name not in self.ends:
                self._hear_end(name, pods.index(pod), ended)

    def failure(self, otherwise: str) -> FairleadError:
        """Why the TrainJob failed, as far as the pods tell."""
        ends = [f"node {node}: {ended}" for node, ended in self.ends.values()]
        reason = ends[-1] if ends else otherwise
        return TrainingError(f"TrainJob {self.name}: it failed ({reason}); see the log above, then run again to resume")

    # What the nodes wait for -----------------------------------------------------------------------------------

    def _look_at_waiting(self) -> None:
        """Say why nodes do not start, when that takes long; end what will never start."""
        now = time.monotonic()
        waiting = [pod for pod in self.pods.values() if pods.phase(pod) == "Pending"]
        if len(self.pods) >= self.num_nodes and not waiting:
            self._waiting_since, self._stuck_since = now, None
            return
        stuck = next((found for pod in waiting if (found := pods.waits_for(pod))[0] in pods.STUCK), None)
        self._stuck_since = (self._stuck_since or now) if stuck else None
        if stuck and now - (self._stuck_since or now) > STUCK_SECONDS:
            raise ClusterError(
                f"TrainJob {self.name}: a node cannot start ({stuck[0]}: {stuck[1]}); "
                "correct the image, its pull secret or the Secret it reads, then run again"
            )
        if now - self._waiting_since > QUIET_SECONDS:
            self._tell_waiting(now, waiting)

    def _tell_waiting(self, now: float, waiting: list[Object]) -> None:
        if self._told[0] and now - self._told[1] < QUIET_SECONDS:
            return
        reason = self._waiting_reason(waiting)
        if reason != self._told[0] or now - self._told[1] > REPEAT_SECONDS:
            running = sum(pods.phase(pod) == "Running" for pod in self.pods.values())
            self._say(f"{running} of {self.num_nodes} nodes run; {reason}")
            self._told = (reason, now)

    def _waiting_reason(self, waiting: list[Object]) -> str:
        for pod in waiting:
            reason, message = pods.waits_for(pod)
            if reason:
                return f"node {pods.index(pod)} waits: {reason}: {message}"
        for what in (self._queue_says() if self._queued() else "", self._events_say()):
            if what:
                return what
        return "no pod says why" if waiting else "there are no pods yet, and no event says why"

    def _queued(self) -> bool:
        return QUEUE_LABEL in (self.found["metadata"].get("labels") or {})

    def _queue_says(self) -> str:
        """Why Kueue holds the TrainJob, from the Workload that it made for it."""
        try:
            path = f"/apis/{KUEUE}/namespaces/{self.api.namespace}/workloads"
            for workload in items(self.api.get(path)):
                owners = workload["metadata"].get("ownerReferences") or []
                if any(owner["uid"] == self.found["metadata"]["uid"] for owner in owners):
                    for c in (workload.get("status") or {}).get("conditions") or []:
                        if c["type"] == "QuotaReserved" and c["status"] == "False":
                            return f"the queue holds it: {c['message']}"
        except FairleadError:
            return ""  # another version of Kueue, or no right to read it
        return ""

    def _events_say(self) -> str:
        """The latest warning about the TrainJob or what was made for it: a quota that is full, a missing runtime."""
        try:
            events = items(
                self.api.get(f"/api/v1/namespaces/{self.api.namespace}/events", fieldSelector="type=Warning")
            )
        except (ClusterError, NotFound, FairleadError):
            return ""
        about = [e for e in events if _is_about(e["involvedObject"], self.name)]
        if not about:
            return ""
        latest = max(about, key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""))
        return (
            f"{latest['involvedObject']['kind']} says {latest['reason']}: {' '.join(latest['message'].split())[:400]}"
        )

    def _say(self, what: str) -> None:
        print(f"train: TrainJob {self.name}: {what}", flush=True)


def _is_about(involved: Object, name: str) -> bool:
    """Whether an event is about the TrainJob, its JobSet, one of its Jobs or one of its pods."""
    found = str(involved.get("name"))
    return found == name or found.startswith(f"{name}-node-")
