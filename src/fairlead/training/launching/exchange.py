"""What a step and the machines that train for it hand each other: objects of the store, since pods share no disk.

    runs/<run id>/job.json              the job, the code it is for, and the base model's digests; written last
    runs/<run id>/tokens/, base/        what is trained on, and what from
    runs/<run id>/failures/<node>.json  why a node ended, until it starts again
    runs/<run id>/finished/             the trained model, training.json last

Needs no torch: the step that waits is thin.
"""

import json
import shutil
from pathlib import Path

from pydantic import Field

from fairlead import errors, provenance
from fairlead.config import Config
from fairlead.errors import Conflict, FairleadError, NotFound, TrainingError
from fairlead.formats.digests import canonical_json, of_file
from fairlead.formats.model import TRAINING
from fairlead.formats.tokens import MANIFEST
from fairlead.names import run_prefix
from fairlead.storage import ObjectStore
from fairlead.storage.folders import download, file_names, publish, remove
from fairlead.training.launching.job import Job

HANDOVER = "job.json"
FINISHED = "finished"


class Handover(Config):
    """`job.json`: what a node needs beside the files."""

    job: Job
    """The job; its folders are those of the step and mean nothing elsewhere."""
    code: str
    """Digest of the source that asks for it; nodes with another do not begin."""
    base: dict[str, str] = Field(default_factory=dict)
    """SHA-256 by file name of the base model."""


class Failure(Config):
    """Why a node ended."""

    node: int
    """Its rank among the nodes."""
    kind: str
    """Name of the exception, of fairlead.errors where it is ours."""
    message: str
    """Its sentence."""
    retryable: bool
    """Whether running again can help."""
    echo: bool
    """Whether this is only what a node says when another one is gone."""
    time: float
    """When, in seconds since 1970."""


def hand_over(store: ObjectStore, job: Job) -> None:
    """Put a job and its inputs into the store; what is there already is left."""
    prefix, tokens = run_prefix(job.run_id), Path(job.tokens)
    if not _has(store, prefix + "tokens/" + MANIFEST):
        publish(store, tokens, prefix + "tokens/", last=MANIFEST, stage="train")
    base: dict[str, str] = {}
    if job.base:
        base = {name: of_file(Path(job.base) / name) for name in file_names(Path(job.base))}
        if not _has(store, prefix + "base/config.json"):
            publish(store, Path(job.base), prefix + "base/", last="config.json", stage="train")
    handover = Handover(job=job, code=provenance.code().source_digest, base=base)
    store.put_bytes(prefix + HANDOVER, canonical_json(handover.to_dict()))


def take_over(store: ObjectStore, run_id: str, folder: Path) -> Job:
    """Fetch a job and its inputs below `folder`; the job's addresses are then those of this machine.

    Raises Conflict when it was asked for by other code than runs here, NotFound when there is none.
    """
    prefix = run_prefix(run_id)
    handover = Handover.parse(json.loads(store.get_bytes(prefix + HANDOVER)), where=prefix + HANDOVER)
    if handover.code != provenance.code().source_digest:
        raise Conflict(
            f"train: this image runs other code than the step that asks for {run_id}; "
            "give the nodes the image of the step"
        )
    download(store, prefix + "tokens/", folder / "tokens", last=MANIFEST, stage="train")
    if handover.job.base:
        download(store, prefix + "base/", folder / "base", digests=handover.base, stage="train")
    base = str(folder / "base") if handover.job.base else None
    here = {"tokens": str(folder / "tokens"), "base": base, "folder": str(folder), "data_folder": None}
    return handover.job.model_copy(update=here)


def give_back(store: ObjectStore, job: Job) -> None:
    """Put the finished model of a run into the store; it appears whole or not at all."""
    publish(store, Path(job.folder) / FINISHED, run_prefix(job.run_id) + FINISHED + "/", last=TRAINING, stage="train")


def is_given_back(store: ObjectStore, run_id: str) -> bool:
    """Whether the finished model of a run is in the store."""
    return _has(store, f"{run_prefix(run_id)}{FINISHED}/{TRAINING}")


def fetch_finished(store: ObjectStore, run_id: str, folder: Path) -> bool:
    """Fetch the finished model of a run to `folder`/finished; False when the store has none."""
    if not is_given_back(store, run_id):
        return False
    shutil.rmtree(folder / FINISHED, ignore_errors=True)
    download(store, f"{run_prefix(run_id)}{FINISHED}/", folder / FINISHED, last=TRAINING, stage="train")
    return True


def report(store: ObjectStore, run_id: str, failure: Failure) -> None:
    """Leave word of why a node ended."""
    store.put_bytes(_failure_key(run_id, failure.node), canonical_json(failure.to_dict()))


def forget(store: ObjectStore, run_id: str, node: int) -> None:
    """Remove what a node said of its end: it starts again."""
    store.delete(_failure_key(run_id, node))


def failures(store: ObjectStore, run_id: str) -> list[Failure]:
    """Why nodes ended, the cause first: what a retry cannot help, then what is no echo, then the earliest."""
    found = []
    for stat in store.list(run_prefix(run_id) + "failures/"):
        try:
            found.append(Failure.parse(json.loads(store.get_bytes(stat.key)), where=stat.key))
        except (FairleadError, ValueError):
            continue  # removed meanwhile by a node that starts again
    return sorted(found, key=lambda failure: (failure.retryable, failure.echo, failure.time))


def error_of(failure: Failure) -> FairleadError:
    """The error that a node told of."""
    cls = getattr(errors, failure.kind, None)
    if isinstance(cls, type) and issubclass(cls, FairleadError):
        return cls(failure.message)
    return TrainingError(failure.message)


def clear(store: ObjectStore, run_id: str, everything: bool = False) -> None:
    """Remove what only the training of a run needed; with `everything` its finished model, too."""
    prefix = run_prefix(run_id)
    for part in ("tokens/", "base/", "failures/"):
        remove(store, prefix + part, first="")
    store.delete(prefix + HANDOVER)
    if everything:
        remove(store, prefix + FINISHED + "/", first=TRAINING)


def _failure_key(run_id: str, node: int) -> str:
    return f"{run_prefix(run_id)}failures/{node:05d}.json"


def _has(store: ObjectStore, key: str) -> bool:
    try:
        store.stat(key)
    except NotFound:
        return False
    return True
