"""The settings of the gate: mistakes are refused before anything runs."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from fairlead.config import apply_overrides
from fairlead.errors import ConfigError
from fairlead.evaluation.config import EvaluationConfig
from fairlead.evaluation.metrics import measure
from fairlead.evaluation.numbers import measure_numbers
from fairlead.evaluation.sets import measure_sets
from fairlead.formats.evaluation import LANGUAGE_METRICS, METRICS
from fairlead.project import ProjectConfig


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("gate.macrof1=0.8", r"evaluation.gate = .* there is no metric 'macrof1', did you mean 'macro_f1'"),
        ("champion_metric=acuracy", r"evaluation.champion_metric = .* did you mean 'accuracy'"),
        ("gate.zzz=0.8", r"there is no metric 'zzz', there are accuracy, macro_f1, "),
    ],
)
def test_a_misspelt_metric_is_refused_with_the_nearest(override: str, sentence: str) -> None:
    project = {"project": "p", "data": {"source": "t.csv"}}
    with pytest.raises(ConfigError, match=sentence):
        ProjectConfig.parse(apply_overrides(project, [f"evaluation.{override}"]))


def test_every_metric_that_is_measured_may_be_gated() -> None:
    scores = measure(["a", "b"], np.array([0, 1, 1]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), 5, positive=0)
    of_sets = measure_sets(["a", "b"], np.eye(2), np.array([[1.0, -1.0], [2.0, 1.0]]), [0.5, 0.5], 5)
    of_numbers = measure_numbers(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]))
    measured = scores.metrics | of_sets.metrics | of_numbers | dict.fromkeys(LANGUAGE_METRICS, 1.0)
    assert set(measured) == set(METRICS)
    settings: dict[str, Any] = {"gate": measured}
    assert EvaluationConfig.parse(settings).gate == measured


def test_the_settings_do_not_cost_scikit_learn() -> None:
    program = "import sys, fairlead.project; sys.exit('sklearn' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
