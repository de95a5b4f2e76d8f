"""Class weights against scikit-learn, the paper's formula and hand-computed values; names that do not fit."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from fairlead.errors import ConfigError
from fairlead.training.objective.class_weights import (
    balanced_C,
    class_weights_C,
    effective_number_C,
    positive_weights_C,
)

NAMES, COUNTS = ["cat", "dog", "eel"], np.array([60, 30, 10])


def test_balanced_is_scikit_learn_s() -> None:
    labels = np.repeat([0, 1, 2], COUNTS)
    assert balanced_C(COUNTS) == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert class_weights_C("balanced", NAMES, COUNTS) == pytest.approx(balanced_C(COUNTS))


def test_the_effective_number_is_the_paper_s() -> None:
    assert effective_number_C(COUNTS, 0.9) == pytest.approx([(1 - 0.9) / (1 - 0.9**n) for n in COUNTS])
    # Nearly 1 it is balanced, and at 0 all classes are alike.
    near, alike = (class_weights_C("effective_number", NAMES, COUNTS, beta) for beta in (1 - 1e-12, 0.0))
    assert near == pytest.approx(balanced_C(COUNTS), rel=1e-6) and alike == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("how", ["balanced", "effective_number", {"cat": 1.0, "dog": 5.0, "eel": 0.5}])
def test_the_mean_over_rows_is_one(how: object) -> None:
    weights = class_weights_C(how, NAMES, COUNTS)  # type: ignore[arg-type]
    assert (weights * COUNTS).sum() == pytest.approx(COUNTS.sum())


def test_weights_by_hand_are_relative() -> None:
    # (60 * 1 + 30 * 2 + 10 * 8) / 100 = 2
    assert class_weights_C({"eel": 8, "cat": 1, "dog": 2}, NAMES, COUNTS) == pytest.approx([0.5, 1.0, 4.0])


@pytest.mark.parametrize("how", ["balanced", "effective_number"])
def test_a_class_without_rows_weighs_nothing(how: str) -> None:
    weights = class_weights_C(how, NAMES, np.array([4, 0, 4]))  # type: ignore[arg-type]
    assert weights == pytest.approx([1, 0, 1])


def test_positives_are_weighed_against_negatives() -> None:
    assert positive_weights_C("balanced", NAMES, np.array([50, 25, 0]), 100) == pytest.approx([1, 3, 1])
    assert positive_weights_C({"dog": 7.0}, NAMES, COUNTS, 100) == pytest.approx([1, 7, 1])


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({"cat": 1, "dog": 1, "ell": 1}, "no class 'ell'; did you mean 'eel'"),
        ({"cat": 1, "dog": 1}, "class 'eel' has no weight"),
    ],
)
def test_names_that_do_not_fit_are_refused(weights: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^training.class_weights: .*{sentence}"):
        class_weights_C(weights, NAMES, COUNTS)
