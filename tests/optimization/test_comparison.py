"""What changed between two variants' answers, for the tasks whose answers are no single label."""

import numpy as np
import pytest

from fairlead.evaluation.judges import Terms
from fairlead.optimization.comparison import RULES, compare


def test_sets_of_labels_are_compared_by_micro_f1() -> None:
    generator = np.random.default_rng(0)
    targets_NC = (generator.random((400, 3)) < 0.4).astype(np.uint8)
    theirs_NC = np.where(targets_NC == 1, 3.0, -3.0).astype(np.float32)
    ours_NC = theirs_NC.copy()
    # Beside the threshold of 0.9, which a probability of 0.88 misses: one label of two rows is lost.
    rows = np.flatnonzero(targets_NC[:, 1])[:2]
    ours_NC[rows, 1] = 2.0
    terms = Terms(["a", "b", "c"], [0.5, 0.9, 0.5], None, 15)
    found = compare("multi_label", terms, targets_NC, ours_NC, theirs_NC, 0.95)
    assert found.changed_share == pytest.approx(2 / 400) and found.max_difference == 1.0
    assert 0 < found.drop < found.worst_drop < 0.02
    assert compare("multi_label", terms, targets_NC, theirs_NC, theirs_NC, 0.95).worst_drop == 0


def test_numbers_are_compared_by_r2_and_a_hundredth_of_their_spread_is_no_change() -> None:
    targets_N = np.linspace(-2, 2, 300)
    theirs_N1 = targets_N[:, None].astype(np.float32)
    ours_N1 = theirs_N1.copy()
    ours_N1[:5] += 0.5
    ours_N1[5:] += 0.005
    found = compare("regression", Terms([], [], None, 15), targets_N, ours_N1, theirs_N1, 0.95)
    assert found.changed_share == pytest.approx(5 / 300)
    assert found.metrics["r2"] < 1 and 0 < found.drop < found.worst_drop < 0.02
    assert RULES["regression"].metric == "r2"
