"""The train stage: check what fits, name the run, train it in its processes, leave the model."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairlead import places, provenance
from fairlead.errors import NotFound
from fairlead.events import result
from fairlead.formats import dataset
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import of_json, short
from fairlead.formats.model import TrainingRecord
from fairlead.formats.tokens import TokensManifest
from fairlead.names import (
    FRESH_ENV,
    IN_STORE,
    SCRATCH,
    VERSION_SCHEME,
    check_project,
)
from fairlead.registry import Registry, open_registry
from fairlead.registry.fetching import fetch_base
from fairlead.stage import stage
from fairlead.training import inputs, recording
from fairlead.training.batching.batches import make_plan
from fairlead.training.batching.blocks import open_rows
from fairlead.training.checkpoints.finished import copy_finished, hardware, read_finished
from fairlead.training.checkpoints.format import open_checkpoints
from fairlead.training.config import CARRYING_OUT, ModelConfig, TrainConfig
from fairlead.training.incremental import check_parent
from fairlead.training.launching import cores, distributed
from fairlead.training.launching.calibration import Cores
from fairlead.training.launching.elsewhere import Elsewhere, recall, train_elsewhere
from fairlead.training.launching.job import Job
from fairlead.training.models.layout import check_layout
from fairlead.training.precision import check_device, resolve, resolve_compile
from fairlead.training.watch.sinks import check_sinks


@stage("train")
def train_stage(
    project: str,
    data: str,
    tokens: str,
    model: dict[str, Any],
    training: dict[str, Any],
    output: str,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Train a model on tokenized data and leave its folder, with training.json, at `output`.

    The run's name follows from all that it depends on, so the same call after a kill goes on from
    the last checkpoint, and after the end gives the same model again. With `training.nodes` above 1
    `elsewhere` has the machines train it.
    """
    check_project(project)
    model_config = ModelConfig.parse(model, where="model")
    config = TrainConfig.parse(training, where="training")
    # Of other machines only they themselves know the devices (fairlead.training.launching.agreeing).
    here = distributed.device_here() if config.nodes == 1 else None
    if here:
        config = resolve(config, here)
        check_device(config, here)
    manifest = inputs.check_data(Path(data), Path(tokens))
    inputs.check_tokenizer(manifest, model_config)
    if here:
        num_steps = make_plan(config, open_rows(Path(tokens), manifest, dataset.TRAIN, config)).num_steps
        config = resolve_compile(config, here, num_steps)
    config.metric_for(manifest.task)
    check_sinks(config.sinks)
    job = _plan(project, Path(data), Path(tokens), manifest, model_config, config)
    if os.environ.get(FRESH_ENV):
        shutil.rmtree(job.folder, ignore_errors=True)
        open_checkpoints(job.checkpoints).remove_all()
    if config.nodes > 1:
        recall(job, fresh=bool(os.environ.get(FRESH_ENV)))
    found = read_finished(Path(job.folder))
    if found:
        print(f"train: {job.run_id} is finished; its model is used (remove {job.folder} to train anew)", flush=True)
    with open_registry() as registry:
        if found:
            record = recording.note(registry, found, manifest)
        else:
            record = _train(registry, job, manifest, elsewhere)
        costs = recording.costs(registry, job.run_id)
    copy_finished(Path(job.folder), Path(output))
    _clean(job)
    reused = {"reused": "yes: finished before"} if found else {}
    result("train", recording.rows(record, Path(tokens), manifest) | costs | reused)


def run_id(project: str, tokens_digest: str, parent: str | None, model: ModelConfig, config: TrainConfig) -> str:
    """The run's name: `run_` and 12 hex digits over everything that decides the weights."""
    environment = provenance.environment("", 1, 1)
    learns = {name: value for name, value in config.to_dict().items() if name not in CARRYING_OUT}
    identity = {
        "project": project,
        "tokens": tokens_digest,
        "model": model.to_dict() | {"base": parent or SCRATCH},
        "training": learns,
        "code": provenance.code().source_digest,
        "torch": environment.torch,
    }
    return f"run_{short(of_json(identity))}"


def _plan(
    project: str,
    data: Path,
    tokens: Path,
    manifest: TokensManifest,
    model: ModelConfig,
    config: TrainConfig,
) -> Job:
    threads = distributed.num_threads(config, _num_processes(config))
    base = None if model.base == SCRATCH else fetch_base(model.base, stage="train")
    if base:
        check_layout(base.folder)
        if base.version:
            # By the name that stays: an alias moves, and its @ would pass for a credential.
            model = model.model_copy(update={"base": f"{VERSION_SCHEME}{base.version}"})
    lineage = dataset.read_manifest(data).lineage
    if lineage:
        check_parent(project, lineage, base, manifest.labels)
    parent = base.digest if base else None
    name = run_id(project, manifest.digest, parent, model, config)
    return Job(
        run_id=name,
        project=project,
        tokens=str(tokens.absolute()),
        base=str(base.folder) if base else None,
        parent=parent,
        parent_version=base.version if base else None,
        data=dataset.read_manifest(data).config,
        data_folder=str(data.absolute()),
        lineage=lineage.to_dict() if lineage else None,
        model=model,
        training=config,
        folder=str(places.run_folder(name)),
        checkpoints=_checkpoints_url(name, config),
        threads=threads,
    )


def _checkpoints_url(name: str, config: TrainConfig) -> str:
    """Where checkpoints are kept: for several machines, which share no disk, always an object store."""
    url = places.checkpoints_url(name, config.checkpoints)
    return url if config.nodes == 1 or url.startswith("s3://") else places.checkpoints_url(name, IN_STORE)


def _num_processes(config: TrainConfig) -> int:
    """Processes on this machine; with several, those of each, as far as it is known here."""
    if config.nodes == 1:
        return distributed.num_processes(config)
    return distributed.check_shares(config, config.processes or 1)


def _train(registry: Registry, job: Job, manifest: TokensManifest, elsewhere: Elsewhere | None) -> TrainingRecord:
    """Train, with the run's beginning and end in the registry."""
    taken = _cores(registry, job, manifest)
    job = job.model_copy(update={"threads": taken.threads})
    nodes = job.training.nodes
    device = hardware(distributed.device_here()) if nodes == 1 else f"cluster: {nodes} nodes"
    environment = provenance.environment(device, nodes * taken.processes, taken.threads)
    recording.start(registry, job.run_id, job.project, manifest, job.sections(manifest.config), environment)
    try:
        record = _launch(job, taken.processes, elsewhere)
    # Whatever stopped it: a run left `running` would be waited for for ever.
    except Exception as error:
        registry.finish_run(job.run_id, "failed", reason=recording.reason(error))
        raise
    recording.finish(registry, record)
    return record


def _cores(registry: Registry, job: Job, manifest: TokensManifest) -> Cores:
    """Processes of each machine and threads of each process."""
    config, before = job.training, None
    if config.nodes > 1 or distributed.device_here().type != "cpu":
        return Cores(_num_processes(config), job.threads)
    with suppress(NotFound):
        before = None if os.environ.get(FRESH_ENV) else registry.get_run(job.run_id).environment
    return cores.decide(config, before, lambda: cores.work_of(job, manifest))


def _launch(job: Job, processes: int, elsewhere: Elsewhere | None) -> TrainingRecord:
    if job.training.nodes > 1:
        train_elsewhere(job, elsewhere)
        told = ""
    else:
        told = _launch_here(job, processes)
    record = read_finished(Path(job.folder))
    if record is None:
        raise distributed.stopped(told or "a signal to its processes")
    return record


def _launch_here(job: Job, processes: int) -> str:
    with tempfile.TemporaryDirectory(prefix="fairlead-job-") as folder:
        path = Path(folder) / "job.json"
        write_json(path, job.to_dict())
        return distributed.launch(path, job.run_id, processes, job.threads, job.training.hang_timeout_seconds)


def _clean(job: Job) -> None:
    """Remove the checkpoints of a run that ended, if its finished model lies beside them.

    Elsewhere the newest stays: when this machine is lost before the model's folder is taken up, the step
    is run again and ends at once. `fairlead store gc` removes those in the store.
    """
    if job.checkpoints == job.folder:
        open_checkpoints(job.checkpoints).remove_all()
