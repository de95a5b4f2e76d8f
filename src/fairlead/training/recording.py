"""What the train stage tells of a run: to the registry when it begins and ends, and to people at its end."""

from pathlib import Path
from typing import Any

from fairlead import provenance
from fairlead.errors import FairleadError, NotFound
from fairlead.formats import dataset
from fairlead.formats.digests import short
from fairlead.formats.model import Environment, TrainingRecord
from fairlead.formats.tokens import TokensManifest
from fairlead.registry import Registry
from fairlead.stage import disk_sentence
from fairlead.training.batching.batches import make_plan
from fairlead.training.batching.blocks import open_rows
from fairlead.training.checkpoints.format import BLOCKED, SKIPPED
from fairlead.training.config import TrainConfig
from fairlead.training.watch.metrics import LOGGING_SHARE


def reason(error: Exception) -> str:
    """The sentence that the stage will end with."""
    if isinstance(error, FairleadError):
        return str(error)
    if isinstance(error, OSError):
        return disk_sentence("train", error)
    return f"train: {type(error).__name__}: {error}"


def note(registry: Registry, record: TrainingRecord, manifest: TokensManifest) -> TrainingRecord:
    """Make the registry agree with a run that finished before; the stage may have been killed in between."""
    try:
        noted = registry.get_run(record.run_id).status == "finished"
    except NotFound:
        start(registry, record.run_id, record.project, manifest, record.config, record.environment)
        noted = False
    if not noted:
        finish(registry, record)
    return record


def start(
    registry: Registry,
    name: str,
    project: str,
    manifest: TokensManifest,
    config: dict[str, Any],
    environment: Environment,
) -> None:
    """Note that a run begins, or goes on."""
    seed = int(config["training"]["seed"])
    code = provenance.code()
    registry.start_run(name, project, manifest.data_digest, manifest.digest, config, seed, environment, code)


def finish(registry: Registry, record: TrainingRecord) -> None:
    """Note that a run has ended well."""
    registry.finish_run(record.run_id, "finished", weights_digest=record.weights_digest, metrics=record.validation)


def costs(registry: Registry, run_id: str) -> dict[str, str]:
    """What logging, checkpoints and overflows took of training, as the run itself measured it."""
    shares, blocked, skipped = (registry.metric_history(run_id, name) for name in (LOGGING_SHARE, BLOCKED, SKIPPED))
    rows = {"logging": f"{100 * shares[-1].value:.2f} % of the time"} if shares else {}
    if blocked:
        seconds = [point.value for point in blocked]
        rows["blocked by checkpoints"] = f"{sum(seconds):.2f} s in {len(seconds)}, at most {max(seconds):.3f} s"
    if skipped:
        rows["steps skipped"] = f"{skipped[-1].value:.0f}, whose gradients overflowed fp16"
    return rows


def rows(record: TrainingRecord, tokens: Path, manifest: TokensManifest) -> dict[str, Any]:
    """What people are told at the end."""
    config = TrainConfig.parse(record.config["training"], where="training")
    metric = config.metric_for(manifest.task)
    train = open_rows(tokens, manifest, dataset.TRAIN, config)
    lengths = train.lengths
    plan = make_plan(config, train)
    return {
        "run": record.run_id,
        "steps": record.steps,
        "best step": record.best_step,
        f"validation {metric}": round(record.validation[metric], 4),
        "seconds": round(record.seconds, 1),
        "tokens/s": round(plan.num_tokens(lengths, record.steps) / max(record.seconds, 1e-9)),
        "processes": record.environment.world_size,
        "threads": record.environment.num_threads,
        "weights": short(record.weights_digest),
    } | ({"micro-batch tokens that fit": record.micro_batch_tokens} if record.micro_batch_tokens else {})
