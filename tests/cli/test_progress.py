"""What a run looks like while it runs, from the events that its stages send."""

import io

from rich.console import Console

from fairlead.cli.display import Display, clock, plain, render
from fairlead.cli.progress import RATE_SECONDS, SECONDS_WORTH_A_LINE, Road
from fairlead.cli.relay import relayed
from fairlead.events import Progress

STAGES = ("ingest", "tokenize", "train")


class Time:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def stage(name, status, **fields):
    return {"event": "stage", "stage": name, "status": status, **fields}


def progress(name, done, total=None, what="work", unit="steps", note=""):
    return {"event": "progress", "stage": name, "what": what, "done": done, "total": total, "unit": unit, "note": note}


def drawn(road, width):
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(render(road))
    return console.export_text().splitlines()


def test_rate_and_time_left_come_from_the_recent_past():
    time = Time()
    road = Road(STAGES, clock=time)
    road.take(stage("train", "started"))
    for done in (0, 10, 20):
        line = road.take(progress("train", done, total=120))
        time.now += 1
    assert line.rate() == 10 and line.seconds_left() == 10
    time.now += RATE_SECONDS
    line = road.take(progress("train", 25, total=120))
    time.now += 5
    line = road.take(progress("train", 30, total=120))
    assert line.rate() == 1 and line.seconds_left() == 90


def test_another_piece_of_work_starts_another_rate():
    road = Road(STAGES)
    road.take(progress("train", 1000, total=2000, what="training"))
    assert road.take(progress("train", 1, total=10, what="validating")).rate() is None


def test_a_stage_goes_from_waiting_to_its_end():
    road = Road(STAGES)
    assert road.lines["train"].state == "waiting"
    road.take({"event": "result", "stage": "ingest", "rows": {"rows": 5200, "classes": 8}})
    assert plain(road.take(stage("ingest", "cached", seconds=0.0))) == "ingest: cached: rows 5,200, classes 8"
    road.take(stage("tokenize", "started"))
    assert plain(road.take(stage("tokenize", "finished", seconds=2.04))) == "tokenize: done in 2.0 s"
    road.take(stage("train", "started"))
    assert road.take({"event": "failed", "stage": "train", "message": "m"}).state == "failed"
    assert road.take(stage("train", "failed", seconds=1.0)).state == "failed"


def test_work_that_is_no_stage_has_a_line_until_a_stage_begins():
    time = Time()
    road = Road(STAGES, clock=time)
    road.take(progress("storage", 5_000_000, 10_000_000, unit="bytes"))
    assert list(road.lines) == ["storage", *STAGES]
    assert plain(road.lines["storage"]) == "storage: 5.0 MB/10.0 MB"
    time.now += SECONDS_WORTH_A_LINE
    road.take(stage("ingest", "started"))
    assert road.lines["storage"].state == "done"
    road.take(progress("digest", 1))
    road.take(stage("ingest", "finished"))
    assert list(road.lines) == ["storage", *STAGES]


def test_every_line_fits_80_columns_and_says_its_state():
    time = Time()
    road = Road(STAGES, clock=time)
    road.take({"event": "result", "stage": "ingest", "rows": {f"finding {i}": i for i in range(30)}})
    road.take(stage("ingest", "cached"))
    road.take(stage("tokenize", "started"))
    road.take(progress("tokenize", 1, 200))
    time.now += 1
    road.take(progress("tokenize", 51, 200, note="loss 1.25"))
    lines = drawn(road, 80)
    assert len(lines) == 3 and max(len(line) for line in lines) <= 80
    assert lines[0].split()[:3] == ["✓", "ingest", "cached"] and lines[0].rstrip().endswith("…")
    assert lines[1].split() == [
        "▸",
        "tokenize",
        "━" * 4 + "─" * 12,
        "51/200",
        "steps",
        "50.0/s",
        "0:03",
        "left",
        "loss",
        "1.25",
    ]
    assert lines[2].split() == ["·", "train"]


def test_without_a_terminal_each_change_is_one_plain_line():
    stream = io.StringIO()
    with Display(STAGES, stream) as display:
        display.on_event(stage("ingest", "started"))
        for done in range(100):
            display.on_event(progress("ingest", done))
        display.on_event({"event": "result", "stage": "ingest", "rows": {"rows": 7}})
        display.on_event(stage("ingest", "finished", seconds=1.0))
        display.on_event({"event": "failed", "stage": "tokenize", "message": "m"})
        display.on_event(stage("tokenize", "failed", seconds=1.0))
    assert stream.getvalue().splitlines() == [
        "ingest: running",
        "ingest: done in 1.0 s: rows 7",
        "tokenize: failed",
    ]


def test_events_of_this_process_are_heard():
    heard = []
    with relayed(heard.append):
        Progress("sample", "reading", 3, "packages").advance(3, note="x")
    assert [(e["stage"], e["done"], e["note"]) for e in heard] == [("sample", 3, "x")]


def test_clock():
    assert [clock(s) for s in (0.4, 65, 7265)] == ["0:00", "1:05", "2:01:05"]
