"""One process a device, started by torch's elastic launcher; the same code for one process as for many.

The launcher runs in the stage's process and starts `python -m fairlead.training.launching.worker <job>` for each
rank. A rank's failure comes back through torch's error file and becomes one sentence.
"""

import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import fairlead
from fairlead import errors, machine, openmp
from fairlead.errors import ConfigError, FairleadError, Stopped, TrainingError
from fairlead.training.config import TrainConfig
from fairlead.training.launching.nodes import JOIN_SECONDS, Node
from fairlead.training.launching.stopping import SHUTDOWN_SECONDS, handing_on_signals
from fairlead.training.watch import heartbeat
from fairlead.training.watch.hang import Watch
from fairlead.training.watch.heartbeat import Phase

WORKER = "fairlead.training.launching.worker"
BROADCAST_BYTES = 256 << 20
ALONE = Node()


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` summed over all processes, in place."""
        with heartbeat.marked(Phase.WAITING):
            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, content: bytes) -> bytes:
        """The first process's `content`, on every process; what the others give is not looked at."""
        if self.world_size == 1:
            return content
        size = self.sum(torch.tensor(len(content) if self.is_first else 0, device=self.device))
        whole = torch.empty(int(size), dtype=torch.uint8)
        if self.is_first and content:
            whole.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        # In pieces, so that a GPU holds a little of it only.
        for piece in torch.split(whole, BROADCAST_BYTES):
            sent = piece.to(self.device)
            dist.broadcast(sent, src=0)
            piece.copy_(sent)
        return whole.numpy().tobytes()


@contextlib.contextmanager
def joined(exchange_timeout: float) -> Iterator[Group]:
    """Join the processes that the launcher started: NCCL on GPUs, gloo on CPU.

    `exchange_timeout` is how many seconds a process waits for the others.
    """
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Bound to its device, a process of NCCL connects at once, and never guesses a device from its rank.
    bound = device if device.type == "cuda" else None
    dist.init_process_group(backend(device), timeout=timedelta(seconds=exchange_timeout), device_id=bound)
    yield Group(dist.get_rank(), dist.get_world_size(), device)
    if device.type == "cuda":
        # NCCL wants its leave taken; for gloo see worker._leave.
        dist.destroy_process_group()


def backend(device: torch.device) -> str:
    """What processes exchange tensors on `device` with."""
    return "nccl" if device.type == "cuda" else "gloo"


def device_here() -> torch.device:
    """The kind of device that training uses on this machine."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def num_processes(config: TrainConfig) -> int:
    """How many processes train on this machine, by its GPUs or the setting; 1 on a CPU where it is not set.

    Raises ConfigError when devices or batch cannot be shared so.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    processes = config.processes or num_gpus or 1
    if num_gpus and processes > num_gpus:
        raise ConfigError(f"training.processes: {processes} is more than the {num_gpus} GPUs here; lower it")
    return check_shares(config, processes)


def check_shares(config: TrainConfig, processes: int) -> int:
    """Return `processes`, those of each node, when there is an example for each. Raises ConfigError otherwise."""
    everywhere = processes * config.nodes
    if everywhere > config.batch_size:
        setting = "training.processes" if config.nodes == 1 else "training.nodes times training.processes"
        raise ConfigError(
            f"{setting}: {everywhere} is more than training.batch_size ({config.batch_size}); "
            "lower it or raise the batch size"
        )
    return processes


def num_threads(config: TrainConfig, processes: int) -> int:
    """Threads of each process: as set, else at most the physical cores shared out (two on one core slow each other)."""
    return config.threads or max(1, machine.physical_cores() // processes)


def launch(job: Path, run_id: str, processes: int, threads: int, hang_timeout: float, node: Node = ALONE) -> str:
    """Run the worker on `job` in every rank of this machine and wait; `node` says which of several it is.

    Returns the name of the signal that told this process to stop, or "". A signal is handed on to the ranks,
    which write a checkpoint and end. Raises the error that a rank raised, with the rank named; TrainingError
    when one was killed, or hung, or when the other machines did not come.
    """
    # Importing the launcher takes a second, which only this stage should pay.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Its own report of a failure is a page long; ours is the sentence.
    for name in ("torch.distributed.elastic", "torch.distributed.elastic.agent.server.api", "torchelastic-events-null"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-ranks-") as logs,
        _environment(threads, node),
        Watch(processes, hang_timeout, node.rank, node.count) as watch,
    ):
        config = LaunchConfig(
            **node.rendezvous(),
            nproc_per_node=processes,
            run_id=run_id,
            max_restarts=0,
            shutdown_timeout=SHUTDOWN_SECONDS,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        ended = handing_on_signals(lambda: elastic_launch(config, sys.executable)("-u", "-m", WORKER, str(job)), WORKER)
    if isinstance(ended.error, ChildFailedError):
        failures = ended.error.failures
        # A rank that was told to stop may die of it; what it says itself goes first.
        told = ended.signal and min(map(_echo, failures.values())) > 0
        raise watch.verdict or (stopped(ended.signal) if told else failure(failures)) from ended.error
    if isinstance(ended.error, dist.DistError):
        raise TrainingError(_apart(node, ended.error)) from ended.error
    if ended.error:
        raise ended.error
    return ended.signal


def _apart(node: Node, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return (
        f"train: the {node.count} nodes did not meet at {node.address}:{node.port} within {JOIN_SECONDS} s, says "
        f"node {node.rank} ({reason}); see whether each has its pod and room for it, then run again"
    )


def stopped(by: str) -> Stopped:
    """The error of a run that was told to stop."""
    return Stopped(f"train: it was stopped by {by} and its state is kept; run again to go on from there")


def failure(failures: Mapping[int, Any]) -> FairleadError:
    """The error to report among those of the ranks (torch's ProcessFailure by rank): the cause, not its echoes."""
    rank = min(failures, key=lambda r: (_echo(failures[r]), failures[r].timestamp, r))
    kind, text = _message(failures[rank])
    cls = getattr(errors, kind, None)
    if isinstance(cls, type) and issubclass(cls, FairleadError):
        return cls(text if len(failures) == 1 and rank == 0 else f"{text} (rank {rank})")
    reason = f"{kind}: {text}" if kind else text
    return TrainingError(f"train: rank {rank} failed ({reason}); see the log above, then run again to resume")


def is_echo(text: str) -> bool:
    """Whether an error's text is what a rank says when another one is gone."""
    return any(sign in text for sign in ("gloo", "NCCL", "Connection", "connection", "Broken pipe"))


def _echo(failed: Any) -> int:
    """0 for a sentence of ours, 1 for any other cause, 2 for what a rank says when another one is gone."""
    kind, text = _message(failed)
    if isinstance(getattr(errors, kind, None), type):
        return 0
    return 2 if is_echo(text) or failed.exitcode in (-signal.SIGTERM, -signal.SIGINT) else 1


def _message(failed: Any) -> tuple[str, str]:
    """The exception's name and text; for a killed process an empty name and the signal."""
    if failed.exitcode < 0:
        return "", f"killed by {failed.signal_name()}, which is often a lack of memory"
    if not isinstance(failed.message, dict):
        return "", f"exit code {failed.exitcode}"
    kind, _, text = str(failed.message["message"]).partition(": ")
    return kind, " ".join(text.split())[:2000]


@contextlib.contextmanager
def _environment(threads: int, node: Node) -> Iterator[None]:
    """What the ranks inherit; the launcher copies this process's environment."""
    source = str(Path(fairlead.__file__).parent.parent)
    path = os.pathsep.join(dict.fromkeys([source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
    values = {
        **openmp.environment(),
        "OMP_NUM_THREADS": str(threads),
        # cuBLAS repeats itself only with a workspace of fixed size.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        # Everything is local by now; a look-up on the network would be a bug.
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # The ranks run the package that this process runs, installed or not.
        "PYTHONPATH": path,
    }
    # Several machines find each other over the interface of their host names, which is gloo's default.
    if sys.platform == "linux" and node.count == 1:
        values["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
