"""`fairlead runs show --follow` on a real registry, which another thread writes while it is read."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fairlead.cli import follow
from fairlead.cli.chart import chart
from fairlead.cli.following import Following
from fairlead.registry import MetricPoint, Registry, open_registry
from tests.cli.records import add_version

RUN = f"{1:016x}"


@pytest.fixture
def registry(home) -> Iterator[Registry]:
    with open_registry() as registry:
        add_version(registry, 1, accuracy=0.9)
        start_again(registry)
        yield registry


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(follow, "SECONDS_BETWEEN_LINES", 0.0)


def start_again(registry: Registry) -> None:
    run = registry.get_run(RUN)
    args = (run.project, run.data_digest, run.tokens_digest, run.config, run.seed, run.environment, run.code)
    registry.start_run(RUN, *args)
    registry.drop_metrics(RUN, -1)


def log(registry: Registry, step: int, **values: float) -> None:
    names = {name.replace("validation_", "validation/"): value for name, value in values.items()}
    registry.log_metrics(RUN, [MetricPoint(name, step, value, time.time()) for name, value in names.items()])


def train(registry: Registry, first: int = 0, last: int = 20) -> None:
    """What a run of 20 steps writes."""
    log(registry, first, num_steps=20)
    for step in range(first + 1, last + 1):
        log(registry, step, loss=2 / step, tokens_per_second=12345.0, padding_share=0.031)
    log(registry, last, validation_macro_f1=0.875, validation_loss=0.2, memory_bytes=1.24e9, seconds_left=65.0)


@pytest.fixture
def later() -> Iterator[Callable[..., None]]:
    """Does something in a moment."""
    timers = []

    def do(function: Callable[..., object], *arguments: object, **named: object) -> None:
        timers.append(threading.Timer(0.3, function, arguments, named))
        timers[-1].start()

    yield do
    for timer in timers:
        timer.join()


def test_in_a_pipe_each_news_is_a_line_and_the_last_says_how_it_ended(fairlead, registry, at_once, later):
    train(registry)
    later(registry.finish_run, RUN, "failed", reason="the loss is not a number")
    outcome = fairlead("runs", "show", RUN, "--follow")
    title, *lines, last = outcome.out.splitlines()
    assert outcome.code == 0 and title.startswith(f"support_topics {RUN}: running for ")
    assert lines == [
        "step 20/20, loss 0.1000, macro_f1 0.8750 (best 0.8750), 12,345 tokens/s, padding 3.1 %, 1.2 GB, 1:05 left"
    ]
    assert last == "failed: the loss is not a number"


def test_as_json_each_step_is_a_line(fairlead, registry, at_once, later):
    train(registry, last=3)
    log(registry, 4, loss=float("nan"))
    later(registry.finish_run, RUN, "finished", metrics={"macro_f1": 0.875})
    first, *steps, last = [json.loads(line) for line in fairlead("runs", "show", RUN, "-f", "--json").out.splitlines()]
    assert (first["event"], first["run_id"]) == ("run", RUN)
    assert [line["values"].get("loss") for line in steps] == [None, 2.0, 1.0, 2 / 3, None]
    assert steps[3]["values"]["validation/macro_f1"] == 0.875 and steps[3]["step"] == 3
    assert (last["event"], last["status"], last["metrics"]) == ("end", "finished", {"macro_f1": 0.875})


def test_a_run_that_says_nothing_is_given_up(fairlead, registry, at_once):
    train(registry, last=7)
    outcome = fairlead("runs", "show", RUN, "--follow", "--patience", "1")
    assert outcome.code == 1
    assert f"{RUN} has said nothing for 0:01 and has probably died at step 7" in outcome.err


def test_a_run_that_died_long_ago_is_not_waited_for_as_long(registry):
    registry.log_metrics(RUN, [MetricPoint("loss", 1, 1.0, time.time() - 7200)])
    now = 0.0
    following = Following(registry, RUN, clock=lambda: now)
    following.look()
    assert following.silence == 0
    now = follow.SECONDS_BETWEEN_LOOKS + 20
    assert following.silence < 60  # it was started a moment ago, whatever its points say
    log(registry, 2, loss=0.5)
    following.look()
    assert following.silence == 0


def test_steps_that_are_done_again_are_drawn_once(registry):
    following = Following(registry, RUN)
    train(registry, last=10)
    following.look()
    start_again(registry)
    train(registry, last=4)
    assert {point.step for point in following.look()} == {0} | {4} or following.step == 4
    train(registry, first=4, last=12)
    following.look()
    assert [step for step, _ in following.curves["loss"]] == list(range(1, 13))


@pytest.mark.parametrize("columns", [24, 40, 80, 120])
def test_in_a_terminal_it_draws_curves_that_fit(registry, columns):
    """A real pseudo-terminal; what is drawn stays when the run has ended."""
    train(registry)
    registry.finish_run(RUN, "finished", metrics={"macro_f1": 0.875})
    screen = terminal(["runs", "show", RUN, "--follow"], columns, 40)
    lines = [line.rstrip() for line in screen.splitlines()]
    assert max(map(len, lines)) <= columns
    assert any("⡇" in line or "⣀" in line or "⠑" in line for line in lines) == (columns >= 30)
    assert "macro_f1 0.8750" in " ".join(lines[-3:]).replace("\n", " ")


def terminal(arguments: list[str], columns: int, lines: int) -> str:
    """What a command leaves on the screen of a terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "LINES": str(lines), "TERM": "xterm", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "fairlead.cli.main", *arguments]
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            drawn += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert child.wait() == 0, drawn
    return plain(drawn.decode())


def plain(text: str) -> str:
    """The text without colours; where a line is drawn anew, as a new line."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\x1b[2K", "\n")).replace("\r", "")


def test_a_chart_has_axes_a_line_and_its_place():
    lines = chart("loss", [(step, 100.0 - step) for step in range(101)], 40, 6)
    assert len(lines) == 6 and max(map(len, lines)) <= 40 and lines[0] == "loss"
    assert lines[1].split()[0] == "99.5" and lines[4].split()[0] == "0.5" and lines[5].split() == ["0", "step", "100"]
    # It falls from the upper left to the lower right.
    assert lines[1][9] == "⠑" or lines[1][9] != " "
    assert lines[4].rstrip()[-1] != " " and len(lines[4].rstrip()) == 40 and lines[1].rstrip() != lines[1][:40]


def test_a_chart_takes_what_comes():
    assert chart("loss", [], 40, 6)[1].strip() == "no values yet"
    nan = float("nan")
    assert chart("loss", [(1, nan), (2, nan)], 40, 6)[1].strip() == "no values yet"
    assert len(chart("loss", [(1, 5.0)], 40, 6)) == 6
    plain = chart("loss", [(1, 5.0), (2, nan), (3, 7.0)], 40, 6, braille=False)
    assert "".join(plain).isascii() and sum(line.count("*") for line in plain) > 2
