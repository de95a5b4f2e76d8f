"""Train on many machines: what the train step does when `training.nodes` is above 1."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from fairlead import places
from fairlead.cluster.api_server import ApiServer, Object, items
from fairlead.cluster.attaching import attach, stop
from fairlead.cluster.config import CompileSettings
from fairlead.cluster.following import Following
from fairlead.cluster.pods import JOBSET_LABEL, phase
from fairlead.cluster.served import Served, read_served
from fairlead.cluster.trainjob import Follower, make_trainjob, trainjob_name
from fairlead.errors import ConfigError, FairleadError, Stopped, TrainingError
from fairlead.names import CLUSTER_ENV, POD_ENV
from fairlead.storage import open_store
from fairlead.training.launching import exchange
from fairlead.training.launching.job import Job

# Of the 30 s that Kubernetes grants this step, what is left after the nodes were told.
WAIT_SECONDS = 20.0
POLL_SECONDS = 0.5


def train_on_nodes(job: Job) -> None:
    """Have a job of the store trained by a TrainJob, and follow it to its end.

    Raises the error that the nodes ended with; Stopped when this step is told to end: the nodes then
    write a checkpoint and end, and the same step goes on from there.
    """
    settings = CompileSettings.parse(json.loads(os.environ.get(CLUSTER_ENV) or "{}"), where=CLUSTER_ENV)
    api = ApiServer.connect("training.nodes: more than 1", "run with --on cluster, or set training.nodes to 1")
    served = read_served(api)
    follower = _follower(api)
    wanted = make_trainjob(job, settings, served, _image(settings, api, follower), follower)
    with _told_to_stop() as told:
        found = attach(api, served, wanted)
        try:
            done = Following(api, served, found, lambda: bool(told)).run()
        except FairleadError as error:
            _end_nodes(api, served, job, follower)
            raise _cause(job, error) from error
        if not done:
            told_nodes = _end_nodes(api, served, job, follower)
            raise Stopped(_stopped_sentence(told[0], told_nodes, found))


def _stopped_sentence(by: str, told_nodes: bool, found: Object) -> str:
    name = found["metadata"]["name"]
    nodes = f"the nodes of TrainJob {name} keep their state" if told_nodes else f"TrainJob {name} is followed elsewhere"
    return f"train: it was stopped by {by}, and {nodes}; run again to go on from there"


def _cause(job: Job, error: FairleadError) -> FairleadError:
    """The error that a node told of, where that says more than the cluster does."""
    with suppress(FairleadError):
        if isinstance(error, TrainingError | ConfigError) and (
            told := exchange.failures(open_store(places.store_url()), job.run_id)
        ):
            cause = exchange.error_of(told[0])
            return type(cause)(f"{cause} (node {told[0].node})")
    return error


def _end_nodes(api: ApiServer, served: Served, job: Job, follower: Follower) -> bool:
    """End the nodes, and give them time to write a checkpoint; whether this step was still the one to."""
    name = trainjob_name(job)
    if not stop(api, served, name, follower.name):
        return False
    deadline = time.monotonic() + WAIT_SECONDS
    with suppress(FairleadError):
        path = f"/api/v1/namespaces/{api.namespace}/pods"
        while time.monotonic() < deadline:
            found = items(api.get(path, labelSelector=f"{JOBSET_LABEL}={name}"))
            # A pod that failed stays until its Job goes.
            if all(phase(pod) in ("Succeeded", "Failed") for pod in found):
                break
            time.sleep(POLL_SECONDS)
    return True


def _follower(api: ApiServer) -> Follower:
    """This step's pod, and as owner of the TrainJob what owns the pod: the run's Workflow, gone with the run."""
    name = os.environ.get(POD_ENV)
    if not name:
        return Follower(f"process-{os.getpid()}-{time.time_ns()}")
    pod = api.get(f"/api/v1/namespaces/{api.namespace}/pods/{name}")
    owner = next(iter(pod["metadata"].get("ownerReferences") or []), None)
    if owner:
        # Only one owner may be the controller, and a TrainJob is not part of what a Workflow reconciles.
        owner = {key: owner[key] for key in ("apiVersion", "kind", "name", "uid")}
    return Follower(f"{name}-{pod['metadata']['uid']}", owner)


def _image(settings: CompileSettings, api: ApiServer, follower: Follower) -> str:
    """The image of the nodes: that of this step, which is the same code."""
    if settings.torch_image:
        return settings.torch_image
    name = os.environ.get(POD_ENV)
    if not name:
        raise ConfigError(
            "cluster.torch_image: it is not set, and outside of a pipeline's pod there is no other image to "
            "give the nodes; set it"
        )
    pod = api.get(f"/api/v1/namespaces/{api.namespace}/pods/{name}")
    containers = pod["spec"]["containers"]
    # Argo calls the container that runs the step `main`.
    return str(next((c for c in containers if c["name"] == "main"), containers[0])["image"])


@contextmanager
def _told_to_stop() -> Iterator[list[str]]:
    """Within the block, the signals that told this process to stop, by name; put back after it."""
    told: list[str] = []

    def note(number: int, _: FrameType | None) -> None:
        told.append(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
