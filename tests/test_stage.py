"""How a stage fails: one sentence, the right exit code, an event for whoever follows."""

import errno
import json
from pathlib import Path

import pytest

from fairlead.errors import DataError, StorageError
from fairlead.events import Progress
from fairlead.stage import EXIT_DO_NOT_RETRY, EXIT_RETRY, stage


def failing(error: Exception):  # type: ignore[no-untyped-def]
    @stage("ingest")
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("tickets.csv: it is empty; give rows"), EXIT_DO_NOT_RETRY, "tickets.csv: it is empty"),
        (StorageError("s3://x: no answer; try again"), EXIT_RETRY, "s3://x: no answer"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), EXIT_RETRY, "No space left on device (/x)"),
        (ValueError("odd"), EXIT_RETRY, "ingest: ValueError: odd; this is a defect: see"),
        (
            ValueError("a tensor:\n  [1, 2]\n"),
            EXIT_RETRY,
            "ingest: ValueError: a tensor: [1, 2]; this is a defect: see",
        ),
    ],
)
def test_the_last_line_is_the_sentence(
    error: Exception, code: int, words: str, capsys: pytest.CaptureFixture[str], events_file: Path
) -> None:
    with pytest.raises(SystemExit) as end:
        failing(error)()
    assert end.value.code == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last
    event = json.loads(events_file.read_text().splitlines()[-1])
    assert event["event"] == "failed"
    assert event["retryable"] is (code == EXIT_RETRY)
    assert words in event["message"]


def test_progress_is_told_to_the_events_file(events_file: Path) -> None:
    progress = Progress("train", "steps", total=3, unit="steps")
    for _ in range(3):
        progress.advance(note="loss 1.0")
    last = json.loads(events_file.read_text().splitlines()[-1])
    assert (last["done"], last["total"], last["note"]) == (3, 3, "loss 1.0")


@pytest.fixture
def events_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("FAIRLEAD_EVENTS", str(path))
    return path
