"""Events as they are written and read, also where the disk is full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.cli.relay import relayed
from fairlead.events import emit, parse

# A limit on the size of files cuts a write short, as a full disk does.
WRITE_ON_A_FULL_DISK = """
import resource, signal
from fairlead.events import emit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60, resource.RLIM_INFINITY))
emit("first", "ingest")
emit("cut", "ingest", note="x" * 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
emit("last", "ingest")
"""


@pytest.fixture
def events_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("FAIRLEAD_EVENTS", str(path))
    return path


def test_an_event_after_a_cut_one_is_whole(events_file: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE_ON_A_FULL_DISK], check=True)
    first, cut, last = map(parse, events_file.read_bytes().splitlines())
    assert cut is None
    assert (first, last) == ({"event": "first", "stage": "ingest"}, {"event": "last", "stage": "ingest"})


@pytest.mark.parametrize("line", [b"", b'{"event": "pro', b"\xff", b"7", b"[]", b'{"stage": "train"}'])
def test_what_is_no_event_is_none(line: bytes) -> None:
    assert parse(line) is None


def test_a_reader_goes_on_after_a_cut_line() -> None:
    heard: list[dict[str, object]] = []
    with relayed(heard.append):
        Path(os.environ["FAIRLEAD_EVENTS"]).write_bytes(b'{"event": "cu')
        emit("whole", "ingest")
    assert heard == [{"event": "whole", "stage": "ingest"}]
