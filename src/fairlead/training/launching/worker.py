"""What each rank runs: `python -m fairlead.training.launching.worker <job.json>`, started by the launcher."""

import contextlib
import faulthandler
import fcntl
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from fairlead import orphans
from fairlead.errors import FairleadError, TrainingError
from fairlead.formats import tokens as token_format
from fairlead.formats.tokens import TokensManifest
from fairlead.registry.runs import flatten
from fairlead.stage import disk_sentence
from fairlead.training.batching.batches import make_plan
from fairlead.training.batching.blocks import open_rows
from fairlead.training.checkpoints.finished import write_finished
from fairlead.training.checkpoints.format import Checkpoints, open_checkpoints
from fairlead.training.launching.agreeing import agree
from fairlead.training.launching.distributed import Group, joined
from fairlead.training.launching.job import Job, read_job
from fairlead.training.loop import Loop
from fairlead.training.models.building import build_model
from fairlead.training.objective.tasks import Splits
from fairlead.training.precision import check_device
from fairlead.training.watch import heartbeat
from fairlead.training.watch.hang import exchange_timeout
from fairlead.training.watch.heartbeat import Phase
from fairlead.training.watch.memory import is_out_of_memory
from fairlead.training.watch.metrics import MetricLog, RegistrySink
from fairlead.training.watch.sinks import open_sinks

LOCK = "lock"
# A killed stage's ranks notice within half a second; the rest is room for a busy machine.
LOCK_SECONDS = 15.0

_stop = threading.Event()


def main(arguments: list[str]) -> NoReturn:
    """Train as one rank; a failure goes to torch's error file, where the stage reads it."""
    handler = get_error_handler()
    handler.initialize()
    signal.signal(signal.SIGTERM, _request_stop)
    signal.signal(signal.SIGINT, _request_stop)
    # A rank that hangs is asked for its stacks before it is ended.
    faulthandler.register(signal.SIGUSR1)
    heartbeat.begin()
    # Or this rank would go on unseen when the launcher was killed with SIGKILL.
    orphans.watch(os.getppid())
    code = 1
    try:
        kept = work(read_job(Path(arguments[0])))  # noqa: F841 (see _leave)
        code = 0
    except FairleadError as error:
        handler.record_exception(error)
    except OSError as error:
        traceback.print_exc()
        handler.record_exception(TrainingError(disk_sentence("train", error)))
    except Exception as error:
        traceback.print_exc()
        handler.record_exception(_translated(error))
    _leave(code)


def work(job: Job) -> Loop:
    """One rank's part of the run: parse, build, train, keep."""
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory would cost time, and nothing here reads memory before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    manifest = token_format.read_manifest(Path(job.tokens))
    splits = Splits(
        train=open_rows(Path(job.tokens), manifest, "train", job.training),
        validation=open_rows(Path(job.tokens), manifest, "validation", job.training),
        pad_token_id=manifest.pad_token_id,
        task=manifest.task,
        data=Path(job.data_folder) if job.data_folder else None,
    )
    torch.manual_seed(job.training.seed)
    model = build_model(job.model, manifest, Path(job.base) if job.base else None)
    limit = exchange_timeout(job.training.hang_timeout_seconds)
    with joined(limit) as group, _alone(Path(job.folder), group):
        checkpoints = open_checkpoints(job.checkpoints)
        training = agree(job.training, make_plan(job.training, splits.train).num_steps, group, checkpoints)
        check_device(training, group.device)
        return _train(job.model_copy(update={"training": training}), manifest, model, splits, group, checkpoints)


def _train(
    job: Job, manifest: TokensManifest, model: nn.Module, splits: Splits, group: Group, checkpoints: Checkpoints
) -> Loop:
    with _metric_log(job, group) as log:
        loop = Loop(job.training, model, splits, group, checkpoints, log, _stop.is_set)
        if loop.run() and group.is_first:
            heartbeat.mark(Phase.SAVING)
            loop.load_best()
            write_finished(job, manifest, loop.model, loop.state, group)
            checkpoints.prune(1)
    return loop


def _translated(error: Exception) -> Exception:
    """A sentence for memory that ran out where no smaller micro-batch helps; other defects as they are."""
    if not is_out_of_memory(error):
        return error
    return TrainingError(
        f"train: memory ran out beside the micro-batches ({' '.join(str(error).split())[:200]}); what does not fit is "
        "the weights, gradients and optimizer's state: take a smaller model, sgd, or more memory"
    )


def _leave(code: int) -> NoReturn:
    """End the process at once, without taking anything apart.

    Taking the gloo group apart joins its threads while holding the interpreter's lock, which they
    need to let go of their last tensors: one run in a dozen hung at its end. After a failure the peers
    may be gone as well. Everything on disk and in the registry is closed by now.
    """
    heartbeat.mark(Phase.DONE)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def _metric_log(job: Job, group: Group) -> Iterator[MetricLog | None]:
    """The first rank's log into the registry; however the run ends, the points of its last steps are written."""
    if not group.is_first:
        yield None
        return
    settings = flatten({"model": job.model.to_dict(), "training": job.training.to_dict()})
    log = MetricLog(RegistrySink(), job.run_id, open_sinks(job.training.sinks, job.project, dict(settings)))
    finished = False
    try:
        yield log
        finished = not _stop.is_set()
    finally:
        log.close(finished=finished)


@contextlib.contextmanager
def _alone(folder: Path, group: Group) -> Iterator[None]:
    """Let one process group at a time work on a run's folder; the lock ends with its process."""
    if not group.is_first:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _locked(file.fileno()):
            if time.monotonic() > deadline:
                raise TrainingError(f"{folder}: another process trains this run; wait for it or stop it")
            time.sleep(0.1)
        yield


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _request_stop(_signal: int, _frame: FrameType | None) -> None:
    _stop.set()


if __name__ == "__main__":
    main(sys.argv[1:])
