"""An evaluation on disk: what evaluate leaves for the gate, the registry and people.

evaluation.json       EvaluationReport
report.html           the same for people, one file without scripts from elsewhere
predictions.parquet   one row a text: dataset, index, label, predicted, probability; sets of labels are JSON
                      lists, numbers are text, and these two have no probability
"""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from fairlead.config import Config
from fairlead.errors import NotFound
from fairlead.formats.atomic import write_json
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING, MULTI_LABEL, REGRESSION, TaskName

REPORT = "evaluation.json"
HTML = "report.html"
PREDICTIONS = "predictions.parquet"

# Metrics of which less is better; of all others more is.
LANGUAGE_METRICS = ("nats_per_character", "bits_per_byte", "loss", "perplexity")
LOWER_IS_BETTER = frozenset({"log_loss", "calibration_error", "hamming_loss", "rmse", "mse", "mae", *LANGUAGE_METRICS})
# In the order in which reports show them.
METRICS = (
    *("accuracy", "macro_f1", "weighted_f1", "micro_f1", "subset_accuracy", "f1", "mcc"),
    *("roc_auc", "average_precision"),
    *("r2", "pearson", "spearman", "rmse", "mse", "mae", "hamming_loss", "log_loss", "calibration_error"),
    *LANGUAGE_METRICS,
)
# What a model is compared with the champion by when nothing is said.
CHAMPION_METRICS: dict[TaskName, str] = {
    CLASSIFICATION: "macro_f1",
    MULTI_LABEL: "macro_f1",
    REGRESSION: "r2",
    LANGUAGE_MODELING: "nats_per_character",
}


class ClassScores(Config):
    """Scores of one class."""

    precision: float
    """Correct among those predicted, 0 to 1; 0 when none was."""
    recall: float
    """Found among those present, 0 to 1."""
    f1: float
    """Harmonic mean of the two."""
    support: int
    """Rows of the class."""
    average_precision: float | None = None
    """Area under precision over recall, 0 to 1; for multi-label classes that occur."""


class Evaluation(Config):
    """How a model did on one data set."""

    dataset: str
    """Name of the split: test, or a further named data set."""
    dataset_digest: str
    """Digest of the split's canonical content."""
    num_rows: int
    """Rows scored."""
    num_unknown_labels: int = 0
    """Rows left out because the model does not know their label."""
    metrics: dict[str, float]
    """By task. Classification: accuracy, macro_f1, weighted_f1, mcc, log_loss, calibration_error; for two classes also
    roc_auc, average_precision and f1 of the rarer class. Multi-label: subset_accuracy, macro_f1, micro_f1,
    weighted_f1, mcc, average_precision, hamming_loss, log_loss, calibration_error. Regression: r2, pearson, spearman,
    rmse, mse, mae. Language: nats_per_character, bits_per_byte, loss (nats a token), perplexity. A metric that the
    rows do not define is left out."""
    per_class: dict[str, ClassScores]
    """By label; empty for numbers."""
    confusion: list[list[int]]
    """Rows are true classes, columns predicted ones, in the order of the labels; empty but for classification."""
    labels: list[str]
    """Order of `confusion`."""


class ChampionScore(Config):
    """Another version, the champion or the parent, on the same test rows."""

    version: str
    """`<project>_v<N>`."""
    dataset_digest: str
    """Digest of the split both were scored on."""
    metrics: dict[str, float]
    """As in Evaluation."""


class EvaluationReport(Config):
    """`evaluation.json`."""

    format: int = 1
    """Version of this format."""
    run_id: str
    """The run whose model was evaluated."""
    weights_digest: str
    """The weights that were evaluated."""
    data_digest: str
    """The data version."""
    task: TaskName = CLASSIFICATION
    """What the model learned."""
    evaluations: list[Evaluation]
    """The test split first."""
    champion: ChampionScore | None = None
    """None when the project has no champion, or it knows other labels."""
    parent: ChampionScore | None = None
    """The version that training continued, on the same test rows; None when it continued none."""
    notes: list[str] = Field(default_factory=list)
    """What a reader has to know: rows left out, a champion that cannot be compared."""
    config: dict[str, Any]
    """The resolved EvaluationConfig."""


def write_report(folder: Path, report: EvaluationReport) -> None:
    """Write `evaluation.json`, last."""
    write_json(folder / REPORT, report.to_dict())


def read_report(folder: Path) -> EvaluationReport:
    """Read `evaluation.json`. Raises NotFound when `folder` holds no evaluation."""
    try:
        return EvaluationReport.parse(json.loads((folder / REPORT).read_text("utf-8")), where=str(folder))
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: it holds no evaluation (no {REPORT}); run evaluate first") from error
