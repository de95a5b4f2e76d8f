import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from fairlead import places
from fairlead.cluster.local import Event, LocalPipeline, LocalRun, forget, run_local, run_pipeline
from fairlead.cluster.processes import only_one
from fairlead.errors import Conflict, DataError, FairleadError, IntegrityError
from fairlead.project import ProjectConfig
from tests.web_server import Site, WebServer

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(p) for p in (HERE, ROOT, ROOT / "src")))


def job(write: dict[str, Any], measure: dict[str, Any] | None = None, until: str | None = None) -> LocalPipeline:
    return LocalPipeline(
        pipeline="tiny_pipeline:tiny",
        arguments={"project": "tiny", "write_config": write, "measure_config": measure or {}},
        until=until,
        pipeline_root=places.home() / "pipeline",
        cache_root=places.home() / "cache" / "tiny",
    )


def run(job: LocalPipeline, events: list[Event] | None = None) -> LocalRun:
    with only_one(places.home() / "locks" / "tiny.lock", "run of tiny") as lock:
        return run_pipeline(job, lock, (events if events is not None else []).append)


def statuses(events: list[Event]) -> list[tuple[str, str]]:
    return [(event["stage"], event["status"]) for event in events if event["event"] == "stage"]


def cached(run: LocalRun) -> dict[str, bool]:
    return {name: stage.cached for name, stage in run.stages.items()}


def test_a_run_gives_outputs_events_results_and_a_complete_log() -> None:
    events: list[Event] = []
    done = run(job({"text": "abc"}), events)
    assert (done.stages["write"].folder / "text").read_text() == "abc"
    assert done.stages["write"].rows == {"letters": 3}
    assert statuses(events) == [
        ("write", "started"),
        ("write", "finished"),
        ("measure", "started"),
        ("measure", "finished"),
    ]
    assert "a line of the child" in done.log.read_text()


def test_the_second_run_is_cached_and_still_tells_what_was_found() -> None:
    first = run(job({"text": "abc"}))
    events: list[Event] = []
    second = run(job({"text": "abc"}), events)
    assert cached(second) == {"write": True, "measure": True}
    assert second.stages["write"].outputs == first.stages["write"].outputs
    assert second.stages["write"].rows == {"letters": 3}
    assert {"event": "result", "stage": "write", "rows": {"letters": 3}} in events


def test_a_changed_setting_runs_what_depends_on_it_again() -> None:
    run(job({"text": "abc"}))
    assert cached(run(job({"text": "abc"}, {"x": 1}))) == {"write": True, "measure": False}
    assert cached(run(job({"text": "abd"}))) == {"write": False, "measure": False}
    assert cached(run(job({"text": "abc"}))) == {"write": True, "measure": True}


def test_until_stops_after_a_stage() -> None:
    assert cached(run(job({"text": "abc"}, until="write"))) == {"write": False}
    assert cached(run(job({"text": "abc"}))) == {"write": True, "measure": False}


def test_a_forgotten_result_is_made_again() -> None:
    run(job({"text": "abc"}))
    forget(job({}).cache_root)
    assert cached(run(job({"text": "abc"}))) == {"write": False, "measure": False}


def test_one_stage_may_be_forgotten_alone() -> None:
    run(job({"text": "abc"}))
    forget(job({}).cache_root, stage="measure")
    assert cached(run(job({"text": "abc"}))) == {"write": True, "measure": False}


def test_a_deleted_output_folder_is_made_again() -> None:
    folder = run(job({"text": "abc"})).stages["write"].folder
    (folder / "text").unlink()
    folder.rmdir()
    assert cached(run(job({"text": "abc"}))) == {"write": False, "measure": False}


def test_a_file_missing_in_a_cached_folder_is_an_error_that_says_what_to_do() -> None:
    folder = run(job({"text": "abc"}, until="write")).stages["write"].folder
    (folder / "text").unlink()
    with pytest.raises(IntegrityError, match=r"text: it is missing; .*--no-cache"):
        run(job({"text": "abc"}))


def test_the_mistake_that_a_stage_names_is_the_error_of_the_run() -> None:
    with pytest.raises(DataError, match=r"^write: no such thing; correct it$") as caught:
        run(job({"text": "abc", "mistake": "no such thing"}))
    assert caught.value.exit_code == 2


def test_a_stage_that_dies_without_a_word_is_named_with_its_log() -> None:
    events: list[Event] = []
    with pytest.raises(FairleadError, match=r"^measure: it ended without a reason .*\.log") as caught:
        run(job({"text": "abc"}, {"crash": True}), events)
    assert caught.value.exit_code == 1
    assert statuses(events)[-1] == ("measure", "failed")


def test_words_of_the_arguments_reach_the_stage_unchanged() -> None:
    text = "python3 'quoted' \"double\" $HOME {{x}} ünïcode\n"
    assert (run(job({"text": text}, until="write")).stages["write"].folder / "text").read_text() == text


def test_a_home_with_blanks_and_quotes_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAIRLEAD_HOME", str(tmp_path / 'a home\'s "place"'))
    run(job({"text": "abc"}))
    assert cached(run(job({"text": "abc"}))) == {"write": True, "measure": True}


def test_packages_of_the_working_folder_are_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("pipelines", "components", "kfp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    monkeypatch.chdir(tmp_path)
    assert cached(run(job({"text": "abc"}, until="write"))) == {"write": False}


def test_two_runs_of_one_project_do_not_mix(home: Path) -> None:
    with (
        only_one(home / "locks" / "tiny.lock", "run of tiny"),
        pytest.raises(Conflict, match=rf"run of tiny: process {os.getpid()} is running it"),
    ):
        run(job({"text": "abc"}))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_survives_the_parent(how: signal.Signals, tmp_path: Path, home: Path) -> None:
    rank_file = tmp_path / "rank"
    request = json.dumps({"text": "abc", "hang": str(rank_file)})
    # The stage heeds no request to stop; asked to, it gets a second in place of the half minute that training has.
    patience = "from fairlead.cluster import processes; processes.SECONDS_OF_STOPPING = 1"
    program = f"{patience}; import test_local as t; t.run(t.job({request}))"
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    wait_until(lambda: rank_file.is_file() and rank_file.read_text() != "")
    tree = [*psutil.Process(parent.pid).children(recursive=True), psutil.Process(int(rank_file.read_text()))]
    parent.send_signal(how)
    assert parent.wait() != 0
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in tree))
    assert cached(run(job({"text": "abc"}))) == {"write": False, "measure": False}


def test_no_file_holds_the_credentials_of_an_address(home: Path) -> None:
    rows = "text,label\n" + "".join(f"text {n} of {'ab'[n % 2]},{'ab'[n % 2]}\n" for n in range(60))
    with WebServer(Site({"/t.csv": rows.encode()})) as server:
        address = server.url.replace("://", "://bob:hunt'er2@") + "/t.csv?sig=topsecret"
        config = ProjectConfig.parse({"project": "topics", "data": {"source": address}})
        done = run_local(config, until="ingest")
    assert "/t.csv?sig=***" in done.log.read_text()
    holding = [path for path in home.rglob("*") if path.is_file() and holds_a_secret(path.read_bytes())]
    assert holding == []
    assert not list(home.rglob("*.request.json"))


def holds_a_secret(content: bytes) -> bool:
    return any(secret in content for secret in (b"topsecret", b"er2", b"Ym9iOmh1bnQ"))


def wait_until(condition: Any) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")
