"""Settings of evaluation and its gate."""

import difflib

from pydantic import Field, field_validator

from fairlead.config import Config
from fairlead.formats.evaluation import METRICS

AUTO = "auto"


class EvaluationConfig(Config):
    """How a trained model is judged."""

    gate: dict[str, float] = Field(default_factory=dict)
    """Least value of a test metric by name (`macro_f1: 0.85`), or greatest of those of which less is better
    (log_loss, calibration_error, hamming_loss, rmse, mse, mae); beyond it the run stops. Default: none."""
    champion_metric: str = AUTO
    """Test metric compared with the current champion on the same rows. Default `auto`: `macro_f1`, for regression
    `r2`."""
    champion_max_drop: float = Field(0.02, ge=0)
    """Points of champion_metric, in its own unit, that a model may lose against the champion before the run stops.
    Default 0.02."""
    parent_metric: str = "accuracy"
    """Test metric compared with the version that training continues, on that version's test rows.
    Default `accuracy`."""
    parent_max_drop: float = Field(0.002, ge=0, le=1)
    """Points of parent_metric, 0 to 1, that a model may lose against the version that it continues before the run
    stops. Default 0.002."""
    calibration_bins: int = Field(15, ge=2, le=100)
    """Bins of equal width of the calibration error. Default 15."""
    num_mistakes: int = Field(20, ge=0, le=1000)
    """Worst confident mistakes shown in the report. Default 20."""

    @field_validator("gate")
    @classmethod
    def _known_gate(cls, value: dict[str, float]) -> dict[str, float]:
        for metric in value:
            _check_metric(metric)
        return value

    @field_validator("champion_metric", "parent_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        return value if value == AUTO else _check_metric(value)


def _check_metric(name: str) -> str:
    """Return `name`; a misspelt one is refused here, before an hour of training and not after it."""
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}" if near else f"there are {', '.join(METRICS)}"
        raise ValueError(f"there is no metric {name!r}, {hint}")
    return name
