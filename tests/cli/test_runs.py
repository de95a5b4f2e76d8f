"""`fairlead runs` and its curves on a real registry."""

import math

import pytest

from fairlead.cli.runs import curves, sparkline
from fairlead.registry import MetricPoint, open_registry
from tests.cli.records import LOSSES, PROJECT, add_version

RUN = f"{1:016x}"


@pytest.fixture
def run_ids(home):
    with open_registry() as registry:
        return [add_version(registry, n, accuracy=0.9, learning_rate=1e-3).run_id for n in (1, 2)]


def test_list_gives_the_latest_first(fairlead, run_ids):
    header, *rows = fairlead("runs", "list").out.splitlines()
    assert header.split() == ["run", "project", "status", "attempts", "macro_f1", "started"]
    assert [row.split()[0] for row in rows] == list(reversed(run_ids))
    assert [run["run_id"] for run in fairlead("runs", "list", PROJECT, "--json").json] == list(reversed(run_ids))
    assert fairlead("runs", "list", "another").out.startswith("no run yet")


def test_show_gives_settings_metrics_and_the_curve(fairlead, run_ids):
    outcome = fairlead("runs", "show", RUN)
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["status", "finished"] in lines and ["macro_f1", "0.9000"] in lines
    assert ["training.learning_rate", "0.001"] in lines
    assert "training.epochs" not in outcome.out and "training.epochs" in fairlead("runs", "show", RUN, "--all").out
    assert ["loss", "█▆▃▁", "4", "0.5000", "0.5000", "2.0000"] in lines


def test_show_as_json_has_every_point(fairlead, run_ids):
    shown = fairlead("runs", "show", RUN, "--json").json
    assert [point["value"] for point in shown["history"]] == LOSSES
    assert shown["environment"]["hardware"] == "cpu: sample"


def test_a_run_is_found_by_the_beginning_of_its_id(fairlead, home):
    with open_registry() as registry:
        for number in (0x1000000000000000, 0x2000000000000000, 0x2100000000000000):
            add_version(registry, number, accuracy=0.9)
    assert fairlead("runs", "show", "1", "--json").json["run_id"] == "1000000000000000"
    outcome = fairlead("runs", "show", "2")
    assert outcome.code == 2 and "begins the id of 2 runs" in outcome.err
    outcome = fairlead("runs", "show", "nothing")
    assert outcome.code == 2 and "there is no run 'nothing'" in outcome.err


def test_a_curve_fits_its_width_and_keeps_its_ends():
    assert sparkline([1.0, 2.0, 3.0], width=10) == "▁▅█"
    long = sparkline([float(i) for i in range(1000)], width=40)
    assert len(long) == 40 and long[0] == "▁" and long[-1] == "█"
    assert sparkline([1.0, math.nan, 2.0]) == "▁ █"
    assert sparkline([5.0, 5.0]) == "▁▁" and sparkline([]) == ""


def test_curves_leave_what_is_not_a_number_out_of_the_extremes():
    points = [MetricPoint("loss", i, v, 0.0) for i, v in enumerate([1.0, math.nan, 0.5])]
    (row,) = curves(points)
    assert (row["min"], row["max"], row["points"]) == (0.5, 1.0, 3)
