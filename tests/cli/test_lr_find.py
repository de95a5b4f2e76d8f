"""`fairlead lr-find`: mistakes stop it before any data is read; what it prints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli import lr_find
from fairlead.errors import ConfigError
from tests.cli.conftest import Outcome

CURVE: dict[str, Any] = {"points": [], "suggested": 3.4e-4, "steepest": 1e-4, "edge": 1e-3, "diverged_at": None}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", 0.1, "--to", 0.01], "--from, --to: 0.1 to 0.01 is no range of rates"),
        (["--from", 0], "--from, --to: 0 to 1 is no range of rates"),
        (["--plot", "curve.txt"], "--plot curve.txt: nothing draws such a file; end its name in .png, .svg, .pdf"),
    ],
)
def test_a_mistake_stops_it_at_once(fairlead: Callable[..., Outcome], arguments: list[Any], sentence: str) -> None:
    found = fairlead("lr-find", "--data", "none.csv", "--project", "topics", *arguments)
    assert found.code == 2 and sentence in found.err


def test_it_says_how_to_train_with_the_rate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lr_find._print(CURVE, tmp_path / "curve.png")
    out = capsys.readouterr().out
    assert "3.4e-04" in out and "--set training.learning_rate=3.4e-04" in out and str(tmp_path / "curve.png") in out


def test_it_says_so_when_the_loss_never_fell(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lr_find._print(CURVE | {"suggested": None}, tmp_path / "curve.png")
    assert "the loss never fell" in capsys.readouterr().out


def test_a_mistake_in_the_process_is_a_sentence_here() -> None:
    # It refuses the job in its own process.
    with pytest.raises(ConfigError, match="is missing"):
        lr_find._run({"steps": "many"})
