"""What each machine of several runs: `python -m fairlead.training.launching.node <run id>`, the command of a TrainJob.

It fetches the job from the object store, meets the other machines, trains with them, and the first one
puts the finished model into the store. It ends with 42 when a retry cannot help, whichever of the
machines knows so, else with 1; its last line says why.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairlead import places
from fairlead.errors import FairleadError, Stopped, TrainingError
from fairlead.formats.atomic import write_json
from fairlead.stage import disk_sentence, stage
from fairlead.storage import ObjectStore, open_store
from fairlead.training.checkpoints.finished import read_finished
from fairlead.training.launching import distributed, exchange
from fairlead.training.launching.exchange import Failure
from fairlead.training.launching.job import Job
from fairlead.training.launching.nodes import Node

# A machine that only lost its peers waits so long for the word of the one that knows why.
CAUSE_SECONDS = 10.0
# The first machine's upload of the model, which the others wait for, so that success means success.
UPLOAD_SECONDS = 1800.0
POLL_SECONDS = 0.5
# Where Kubernetes reads the reason of a container's end; there is no such file elsewhere.
TERMINATION_LOG = Path("/dev/termination-log")


@stage("train")
def node_stage(run_id: str) -> None:
    """Train a run of the store as one of its machines."""
    node, store = Node.from_environment(), open_store(places.store_url())
    exchange.forget(store, run_id, node.rank)
    with _reported(store, run_id, node):
        job = exchange.take_over(store, run_id, places.run_folder(run_id))
        _train(job, node)
        if node.is_first:
            _give_back(store, job)
        else:
            _await_model(store, run_id)
    print(f"train: node {node.rank} of {node.count} is done", flush=True)


def _train(job: Job, node: Node) -> None:
    processes = node.processes or distributed.num_processes(job.training)
    distributed.check_shares(job.training, processes)
    threads = distributed.num_threads(job.training, processes)
    path = Path(job.folder) / exchange.HANDOVER
    write_json(path, job.model_copy(update={"threads": threads}).to_dict())
    told = distributed.launch(path, job.run_id, processes, threads, job.training.hang_timeout_seconds, node)
    if told and read_finished(Path(job.folder)) is None:
        raise distributed.stopped(told)


def _give_back(store: ObjectStore, job: Job) -> None:
    if read_finished(Path(job.folder)) is None:
        raise distributed.stopped("a signal to another node")
    exchange.give_back(store, job)


def _await_model(store: ObjectStore, run_id: str) -> None:
    """Wait until the first machine has put the model into the store, or says why it will not."""
    deadline = time.monotonic() + UPLOAD_SECONDS
    while not exchange.is_given_back(store, run_id):
        first = next((f for f in exchange.failures(store, run_id) if f.node == 0), None)
        if first:
            raise exchange.error_of(first)
        if time.monotonic() > deadline:
            raise TrainingError(f"train: node 0 has left no model within {UPLOAD_SECONDS:.0f} s; see its log")
        time.sleep(POLL_SECONDS)


@contextmanager
def _reported(store: ObjectStore, run_id: str, node: Node) -> Iterator[None]:
    """Leave word of a failure, and end as the machine does that knows the cause."""
    try:
        yield
    except Exception as error:
        failure = _failure(node, error)
        cause = None
        # A store that fails must not hide why the node does.
        with suppress(FairleadError):
            _tell_kubernetes(failure.message)
            exchange.report(store, run_id, failure)
            if failure.retryable and not isinstance(error, Stopped):
                cause = _cause(store, run_id)
        if cause:
            raise exchange.error_of(cause) from error
        raise


def _tell_kubernetes(message: str) -> None:
    """Make the sentence the reason of the container's end, which Kubernetes keeps to 4,096 bytes."""
    if TERMINATION_LOG.is_file():
        with suppress(OSError):
            TERMINATION_LOG.write_bytes(message.encode()[:4096])


def _failure(node: Node, error: Exception) -> Failure:
    if isinstance(error, FairleadError):
        message, retryable = str(error), error.retryable
    elif isinstance(error, OSError):
        message, retryable = disk_sentence("train", error), True
    else:
        message, retryable = f"train: {type(error).__name__}: {error}", True
    return Failure(
        node=node.rank,
        kind=type(error).__name__,
        message=" ".join(message.split()),
        retryable=retryable,
        echo=distributed.is_echo(message),
        time=time.time(),
    )


def _cause(store: ObjectStore, run_id: str) -> Failure | None:
    """The failure of another machine that no retry can help, if one is told of within a few seconds."""
    deadline = time.monotonic() + CAUSE_SECONDS
    while time.monotonic() < deadline:
        found = exchange.failures(store, run_id)
        if found and not found[0].retryable:
            return found[0]
        time.sleep(POLL_SECONDS)
    return None


if __name__ == "__main__":
    node_stage(sys.argv[1])
