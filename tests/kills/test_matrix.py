"""Training that is killed again and again ends with the weights of training that was not.

KILLS and SEED set how often and when, as for `make kill-matrix`.
"""

import os
from pathlib import Path

import pytest

from tests.kills.matrix import VARIANTS, Matrix

KILLS = int(os.environ.get("KILLS") or 40)
SEED = os.environ.get("SEED") or "0"


# An attempt took 3 s on a machine with six times more to do than it has cores.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("world_size", [1, 2])
def test_killed_anywhere_training_ends_with_the_same_weights(tmp_path: Path, world_size: int) -> None:
    matrix = Matrix(tmp_path / "runs", world_size, SEED)
    try:
        matrix.kill(KILLS // 2)
    finally:
        matrix.close()
    assert matrix.tally.kills >= KILLS // 2
    assert KILLS < 40 or set(matrix.tally.runs) == set(VARIANTS)
