"""The namespace of a run of the suite: made, held, removed; and what earlier runs left when they were killed.

Whatever a run makes outside its namespace carries its label too, and is removed with it.
"""

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil

from fairlead.cluster.api_server import ApiServer, Object
from fairlead.errors import NotFound
from fairlead.names import LABEL_PREFIX
from tests.on_cluster.objects import Objects, wait

RUN = LABEL_PREFIX + "cluster-test"
HOLDER = LABEL_PREFIX + "held-by"
# A run on another machine cannot be asked whether it lives; none takes so long.
LONGEST_RUN = timedelta(hours=3)
# What a run may make outside its namespace.
CLUSTER_WIDE = (("serving.kserve.io/v1alpha1", "ClusterStorageContainer"), ("scheduling.k8s.io/v1", "PriorityClass"))


@dataclass(frozen=True)
class Run:
    """The names of one run; no other has them."""

    id: str

    @classmethod
    def new(cls) -> "Run":
        """One with a random id."""
        return cls(secrets.token_hex(3))

    @property
    def namespace(self) -> str:
        """Where everything of it is."""
        return f"fairlead-test-{self.id}"

    @property
    def project(self) -> str:
        """The model's project."""
        return f"on_cluster_{self.id}"

    def cluster_wide(self, name: str) -> str:
        """What an object of the manifests that stands in no namespace is called here: `fairlead-test-1a2b3c-s3`."""
        return f"{self.namespace}-{name.removeprefix('fairlead-')}"


def make(objects: Objects, run: Run, labels: dict[str, str]) -> None:
    """Make the namespace, and wait until pods can be made in it."""
    objects.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": run.namespace,
                "labels": {**labels, RUN: run.id},
                "annotations": {HOLDER: _holder(os.getpid())},
            },
        }
    )
    account = f"/api/v1/namespaces/{run.namespace}/serviceaccounts/default"
    wait(lambda: _get(objects.server, account), 60, f"the account `default` of {run.namespace}")


def leftovers(objects: Objects, now: datetime) -> Iterator[Run]:
    """Earlier runs that nobody holds any more."""
    namespaces = objects.find("v1", "Namespace", labelSelector=RUN)
    yield from (Run(_run_of(found)) for found in namespaces if not _is_held(found, now))
    alive = {_run_of(found) for found in namespaces}
    wide = [found for kind in CLUSTER_WIDE for found in objects.find(*kind, labelSelector=RUN)]
    yield from (Run(run) for run in sorted({_run_of(found) for found in wide} - alive))


def remove(objects: Objects, run: Run, seconds: float, say: Callable[[str], None] = lambda line: None) -> None:
    """Remove a run's namespace with all that is in it, then what it made outside; says what does not go."""
    path = f"/api/v1/namespaces/{run.namespace}"
    objects.server.delete(path)
    try:
        wait(lambda: True if _get(objects.server, path) is None else None, seconds, "it is still there")
    except AssertionError:
        say(f"namespace {run.namespace} is not gone after {seconds:.0f} s: {_why(_get(objects.server, path))}")
    for api_version, kind in CLUSTER_WIDE:
        for found in objects.find(api_version, kind, labelSelector=f"{RUN}={run.id}"):
            objects.server.delete(objects.path({"apiVersion": api_version, "kind": kind, **found}))


def _is_held(found: Object, now: datetime) -> bool:
    host, _, process = str((found["metadata"].get("annotations") or {}).get(HOLDER)).partition(" ")
    if host == socket.gethostname():
        number = process.partition(" ")[0]
        return number.isdigit() and _holder(int(number)) == f"{host} {process}"
    made = datetime.fromisoformat(found["metadata"]["creationTimestamp"][:19]).replace(tzinfo=UTC)
    return now - made < LONGEST_RUN


def _holder(process: int) -> str:
    """A process by machine, number and the second it began in: numbers come again."""
    try:
        began = f"{psutil.Process(process).create_time():.0f}"
    except psutil.NoSuchProcess:
        began = "over"
    return f"{socket.gethostname()} {process} {began}"


def _run_of(found: Object) -> str:
    return str(found["metadata"]["labels"][RUN])


def _get(server: ApiServer, path: str) -> Object | None:
    try:
        return server.get(path)
    except NotFound:
        return None


def _why(found: Object | None) -> str:
    conditions = ((found or {}).get("status") or {}).get("conditions") or []
    return "; ".join(str(c.get("message")) for c in conditions if c.get("status") == "True") or "no reason is given"
