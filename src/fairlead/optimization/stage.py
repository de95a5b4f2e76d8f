"""The optimize stage: which variant of a trained model serves, and how its probabilities are read.

optimization.json    OptimizationRecord, or {"skipped": reason} where there is nothing to optimize
variants/            files of the variants that the version keeps
report.html          the precision table for people
"""

from pathlib import Path
from typing import Any

from fairlead.errors import ConfigError
from fairlead.events import result
from fairlead.formats import tokens as token_format
from fairlead.formats.atomic import write_bytes, write_json
from fairlead.formats.dataset import TEST, TRAIN, VALIDATION
from fairlead.formats.evaluation import HTML
from fairlead.formats.model import TrainingRecord, read_training
from fairlead.formats.variants import OPTIMIZATION, SKIPPED, OptimizationRecord
from fairlead.optimization.config import OptimizationConfig
from fairlead.optimization.table import summary
from fairlead.stage import stage


@stage("optimize")
def optimize_stage(project: str, tokens: str, model: str, config: dict[str, Any], output: str, html: str) -> None:
    """Optimize the trained model in folder `model`; `config` is OptimizationConfig's. `html` is a path for the report.

    Raises ConfigError for the name of a data set that there is none of.
    """
    settings = OptimizationConfig.parse(config, where="optimization")
    record, folder = read_training(Path(model)), Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    if reason := skipped(record, settings):
        write_json(folder / OPTIMIZATION, {SKIPPED: reason})
        page = _page(project, record, {}, [f"<p>Not optimized: {reason}.</p>"])
        rows: dict[str, Any] = {SKIPPED: reason}
    else:
        found = _optimize(Path(tokens), Path(model), record, settings, folder)
        write_json(folder / OPTIMIZATION, found.to_dict())
        page, rows = report(project, record, found), summary(found)
    for path in (Path(html), folder / HTML):
        write_bytes(path, page.encode())
    result("optimize", rows)


def skipped(record: TrainingRecord, settings: OptimizationConfig) -> str:
    """Why there is nothing to optimize; empty where there is."""
    if record.writes_text:
        return "a language model has one variant, its weights"
    return "" if settings.enabled else "optimization.enabled is false"


def _optimize(
    tokens: Path, model: Path, record: TrainingRecord, settings: OptimizationConfig, output: Path
) -> OptimizationRecord:
    # torch and the runtimes take seconds to import, which a stage that is skipped need not wait for.
    from fairlead.optimization.material import Material, spread, texts
    from fairlead.optimization.optimize import optimize

    manifest = token_format.read_manifest(tokens)
    train, validation, test = (token_format.open_split(tokens, manifest, name) for name in (TRAIN, VALIDATION, TEST))
    other = settings.out_of_scope
    if other is not None and other not in manifest.splits:
        names = ", ".join(sorted(manifest.splits))
        raise ConfigError(f"optimization.out_of_scope: there is no data set {other!r}; it is one of {names}")
    material = Material(
        folder=model,
        record=record,
        pad_token_id=manifest.pad_token_id,
        train=texts(train, settings.calibration_rows),
        validation=spread(validation, record, settings.max_rows),
        test=spread(test, record, settings.max_rows),
        out_of_scope=texts(token_format.open_split(tokens, manifest, other), settings.max_rows) if other else [],
    )
    return optimize(material, settings, output)


def report(project: str, record: TrainingRecord, found: OptimizationRecord) -> str:
    """The precision table for people, as an HTML page."""
    from fairlead.optimization.report import sections

    return _page(project, record, found.config, sections(found))


def _page(project: str, record: TrainingRecord, config: dict[str, Any], parts: list[str]) -> str:
    from fairlead.evaluation.report import page
    from fairlead.formats.evaluation import EvaluationReport

    # The heading of a report says which run, weights and data it is of.
    of = EvaluationReport(
        run_id=record.run_id,
        weights_digest=record.weights_digest,
        data_digest=record.data_digest,
        task=record.task,
        evaluations=[],
        config=config,
    )
    return page(project, of, parts)
