"""The chain that a model version hangs on: every link must be there, and each must fit the next."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.errors import Conflict, GateFailed, IntegrityError, NotFound
from fairlead.events import Progress
from fairlead.formats import dataset, evaluation, model, tokens
from fairlead.formats.digests import of_file, of_json
from fairlead.formats.evaluation import EvaluationReport
from fairlead.formats.model import TrainingRecord
from fairlead.formats.variants import OptimizationRecord, read_optimization
from fairlead.names import CLASSIFICATION, MULTI_LABEL
from fairlead.provenance import NOT_INSTALLED
from fairlead.registry.records import Promotion

if TYPE_CHECKING:
    from fairlead.registry.store import Registry
    from fairlead.storage import ObjectStore

VERDICT = "verdict.json"
CONFIG_SECTIONS = ("data", "tokenization", "model", "training")
# Settings of the gate: the evaluation is not told them and reports their defaults.
GATE_SETTINGS = ("gate", "champion_metric", "champion_max_drop", "parent_metric", "parent_max_drop")
# The metric that picks the champion when the verdict names none.
DEFAULT_METRIC = "macro_f1"


@dataclass(frozen=True)
class Candidate:
    """A trained and evaluated model that may become a version."""

    project: str
    folder: Path
    training: TrainingRecord
    report: EvaluationReport
    verdict: dict[str, Any]
    optimization: OptimizationRecord | None = None
    """What the optimize stage found; None where it had nothing to do."""
    variants: Path | None = None
    """The folder that its files are in."""

    @property
    def closure(self) -> str:
        """Digest of everything the version comes from, without clocks: the same closure is the same version."""
        origin: dict[str, Any] = {
            "project": self.project,
            "training": {name: value for name, value in self.training.identity().items() if name != "seconds"},
            "datasets": [[e.dataset, e.dataset_digest] for e in self.report.evaluations],
        }
        # What optimization was asked, and where; what it found there depends on times.
        return of_json(origin | ({"optimization": self.optimization.closure()} if self.optimization else {}))

    @property
    def evaluation_config(self) -> dict[str, Any]:
        """How the model was judged. The gate is a step of its own: its settings are those in the verdict."""
        kept = {name: value for name, value in self.report.config.items() if name not in GATE_SETTINGS}
        return {**kept, **self.verdict.get("config", {})}

    @property
    def checks(self) -> list[dict[str, Any]]:
        """The gate's checks."""
        return list(self.verdict.get("checks", []))

    @property
    def promotion(self) -> Promotion:
        """When this model takes the champion's place."""
        metric = self.verdict.get("champion_metric", DEFAULT_METRIC)
        return Promotion(metric, self.report.evaluations[0].dataset_digest, self.report.champion)


def read_candidate(
    project: str,
    data: Path,
    tokenized: Path,
    trained: Path,
    evaluated: Path,
    judged: Path,
    optimized: Path | None = None,
) -> Candidate:
    """Read what the stages left and check that it belongs together. Raises the error of the first broken link."""
    training, report = model.read_training(trained), evaluation.read_report(evaluated)
    found = read_optimization(optimized) if optimized else None
    candidate = Candidate(project, trained, training, report, _read_verdict(judged), found, optimized)
    _check_present(candidate)
    _check_fit(candidate, dataset.read_manifest(data).digest, tokens.read_manifest(tokenized).digest)
    _check_weights(trained, training)
    _check_judged(candidate)
    return candidate


def check_recorded(registry: "Registry", store: "ObjectStore", candidate: Candidate) -> None:
    """Check the links outside the folders: the run, finished with these weights, and the data version, stored."""
    where, training = f"register {candidate.project}", candidate.training
    try:
        run = registry.get_run(training.run_id)
        store.stat(registry.get_data_version(training.data_digest).prefix + dataset.MANIFEST)
    except NotFound as error:
        raise NotFound(f"{where}: a link is missing: {error}") from error
    if (run.project, run.status, run.weights_digest) != (candidate.project, "finished", training.weights_digest):
        raise Conflict(
            f"{where}: the link 'run' is {run.run_id} of {run.project}, {run.status} with weights "
            f"{run.weights_digest}, not {training.weights_digest}; train again"
        )


def _check_present(candidate: Candidate) -> None:
    for name, value in _links(candidate.training):
        if not value or value == NOT_INSTALLED:
            path = candidate.folder / model.TRAINING
            raise NotFound(f"register {candidate.project}: the link {name!r} is missing in {path}; train again")


def _check_fit(candidate: Candidate, data_digest: str, tokens_digest: str) -> None:
    training, report = candidate.training, candidate.report
    for name, here, there in (
        ("project", candidate.project, training.project),
        ("data version", data_digest, training.data_digest),
        ("tokens", tokens_digest, training.tokens_digest),
        ("evaluated run", report.run_id, training.run_id),
        ("evaluated weights", report.weights_digest, training.weights_digest),
        ("evaluated data version", report.data_digest, training.data_digest),
    ):
        if here != there:
            raise Conflict(
                f"register {candidate.project}: the link {name!r} is {here}, the model's is {there}; "
                "run the stages again"
            )


def _links(training: TrainingRecord) -> Iterator[tuple[str, Any]]:
    """Name and value of everything that must be known; None or empty is missing; a commit may be (decision 007)."""
    for name in ("run_id", "data_digest", "tokens_digest", "weights_digest"):
        yield name, getattr(training, name)
    if training.task in (CLASSIFICATION, MULTI_LABEL):
        yield "labels", training.labels
    for section in CONFIG_SECTIONS:
        yield f"config.{section}", training.config.get(section)
    for name in ("python", "torch", "packages_digest", "hardware"):
        yield f"environment.{name}", getattr(training.environment, name)
    for name in ("package", "source_digest"):
        yield f"code.{name}", getattr(training.code, name)
    if training.config.get("model", {}).get("base", "scratch") != "scratch":
        yield "parent", training.parent


def _check_weights(trained: Path, training: TrainingRecord) -> None:
    path = trained / model.WEIGHTS
    if not path.is_file():
        raise NotFound(f"{path}: the link 'weights' is missing; train again")
    progress = Progress("register", "check the weights", path.stat().st_size, "bytes")
    if of_file(path, progress.advance) != training.weights_digest:
        raise IntegrityError(f"{path}: its SHA-256 differs from {model.TRAINING}; it was changed: train again")


def _check_judged(candidate: Candidate) -> None:
    where = f"register {candidate.project}"
    if not candidate.report.evaluations:
        raise NotFound(f"{where}: the link 'evaluation' is missing; evaluate again")
    if candidate.verdict.get("passed") is not True:
        raise GateFailed(f"{where}: the gate did not pass this model; train a better one or change evaluation.gate")


def _read_verdict(folder: Path) -> dict[str, Any]:
    try:
        verdict = json.loads((folder / VERDICT).read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: the link 'verdict' is missing (no {VERDICT}); run the gate first") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{folder / VERDICT}: it is not JSON ({error}); run the gate again") from error
    if not isinstance(verdict, dict):
        raise IntegrityError(f"{folder / VERDICT}: an object is expected; run the gate again")
    return verdict
