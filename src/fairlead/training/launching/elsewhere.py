"""Training on other machines, by what lies in the object store; who starts them is told, not known, here."""

import shutil
from collections.abc import Callable
from pathlib import Path

from fairlead import places
from fairlead.errors import ConfigError, TrainingError
from fairlead.storage import ObjectStore, open_store
from fairlead.training.launching import exchange
from fairlead.training.launching.job import Job

Elsewhere = Callable[[Job], None]
"""Has a job of the store trained on `training.nodes` machines, and returns when its model is in the store."""


def recall(job: Job, fresh: bool) -> None:
    """Fetch the finished model of an earlier attempt into the job's folder; with `fresh` forget that, too."""
    store = _store(job)
    if fresh:
        exchange.clear(store, job.run_id, everything=True)
    elif exchange.fetch_finished(store, job.run_id, Path(job.folder)):
        exchange.clear(store, job.run_id)


def train_elsewhere(job: Job, elsewhere: Elsewhere | None) -> None:
    """Train on other machines and fetch the model; raises the error that they ended with."""
    if elsewhere is None:
        raise ConfigError("training.nodes: more than 1 is for the pipeline's train step; set it to 1 here")
    store = _store(job)
    exchange.hand_over(store, job)
    elsewhere(job)
    shutil.rmtree(Path(job.folder) / exchange.FINISHED, ignore_errors=True)
    if not exchange.fetch_finished(store, job.run_id, Path(job.folder)):
        raise TrainingError("train: the nodes ended without leaving a model in the store; run again")
    exchange.clear(store, job.run_id)


def _store(job: Job) -> ObjectStore:
    url = places.store_url()
    if not url.startswith("s3://"):
        raise ConfigError(
            f"training.nodes: {job.training.nodes} machines share no disk, and the store {url} is a folder; "
            "set FAIRLEAD_STORE to s3://bucket/prefix, or training.nodes to 1"
        )
    return open_store(url)
