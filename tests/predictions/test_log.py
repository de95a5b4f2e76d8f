"""The prediction log: written in batches, bounded while the store is down, found again by id."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.errors import NotFound
from fairlead.predictions.config import PredictionLogConfig
from fairlead.predictions.events import PREFIX, Answered, read_parquet, to_parquet
from fairlead.predictions.finding import find, remove_older
from fairlead.predictions.ids import IdSource, PredictionId
from fairlead.predictions.log import PredictionLog, file_key
from fairlead.storage import ObjectStore, open_store
from tests.predictions.records import IDS, answered

ROOT = Path(__file__).parent.parent.parent


class Counts:
    """What a log says that it did."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def __call__(self, outcome: str, number: int) -> None:
        self.of[outcome] += number


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def keys(store: ObjectStore) -> list[str]:
    return [stat.key for stat in store.list(PREFIX)]


def test_events_are_cloudevents_and_the_same_from_a_file() -> None:
    one = answered(texts=["my card", "日本 \n語"])
    events = one.events()
    assert read_parquet(to_parquet([one])) == events
    event = events[1]
    assert {"specversion", "id", "source", "type", "time"} <= event.keys()
    assert (event["specversion"], event["id"]) == ("1.0", f"{one.prediction_id}/1")
    assert event["time"].endswith("Z") and len({e["id"] for e in events}) == 2
    data = event["data"]
    assert (data["text"], data["index"], data["answer"]) == ("日本 \n語", 1, {"label": "billing", "probability": 0.75})
    assert (data["version"], data["variant"], data["digest"]) == ("support_topics_v3", "torch-fp32", "sha256:ab")


@pytest.mark.parametrize("answer", [{"labels": ["a"], "label_probabilities": [0.5]}, {"value": 3.5}, {"text": "x"}])
def test_answers_of_any_task_come_back(answer: dict[str, object]) -> None:
    one = Answered(**{name: getattr(answered(), name) for name in Answered.__slots__} | {"answers": [answer]})
    (event,) = read_parquet(to_parquet([one]))
    assert event["data"]["answer"] == answer
    assert "text" not in event["data"] and "text_sha256" not in event["data"]


def test_what_is_put_is_written_by_size_by_time_and_at_the_end(store: ObjectStore) -> None:
    counts = Counts()
    log = PredictionLog(store, PredictionLogConfig(batch_records=3, flush_seconds=3600), counts)
    sent = [answered() for _ in range(7)]
    assert all(log.put(one) for one in sent)
    wait_for(lambda: counts.of["written"] == 6)
    assert log.pending == 1
    log.close()
    assert counts.of == {"written": 7} and log.pending == 0
    assert sorted(len(read_parquet(store.get_bytes(key))) for key in keys(store)) == [1, 3, 3]
    timed = PredictionLog(store, PredictionLogConfig(flush_seconds=0.1), counts)
    timed.put(answered())
    wait_for(lambda: counts.of["written"] == 8)
    timed.close()
    assert not timed.put(answered()), "a closed log takes nothing"
    assert counts.of["dropped"] == 1


def test_every_prediction_is_found_by_its_id_alone_and_nothing_else_is_read(store: ObjectStore) -> None:
    log = PredictionLog(store, PredictionLogConfig(batch_records=5))
    sent = [answered(label=str(number), texts=["a", "b"]) for number in range(40)]
    for one in sent:
        log.put(one)
    log.close()
    read: list[str] = []
    get_bytes = store.get_bytes
    store.get_bytes = lambda key: (read.append(key), get_bytes(key))[1]  # type: ignore[method-assign]
    for one in sent:
        read.clear()
        events = find(store, ["other", "support_topics"], PredictionId.parse(one.prediction_id))
        assert events == one.events()
        # Ids of one millisecond may lie in several files.
        assert (
            len(read) < len(keys(store)) or len({PredictionId.parse(s.prediction_id).milliseconds for s in sent}) < 20
        )


def test_a_prediction_that_is_not_there_is_not_found_with_the_reasons(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match=r"no record of it under support_topics; .*killed.*drop"):
        find(store, ["support_topics"], PredictionId.parse(IDS.next()))


def test_a_batch_over_the_end_of_an_hour_is_two_files(store: ObjectStore) -> None:
    last = 1_772_409_599_999
    ids = [f"{ms:012x}"[:8] + "-" + f"{ms:012x}"[8:] + "-7abc-8000-000000000000" for ms in (last, last + 1)]
    log = PredictionLog(store, PredictionLogConfig())
    for id in ids:
        log.put(answered(id=id))
    log.close()
    folders = [key.rpartition("/")[0].removeprefix("predictions/support_topics/") for key in keys(store)]
    assert folders == ["2026-03-01/23", "2026-03-02/00"]
    assert [find(store, ["support_topics"], PredictionId.parse(id))[0]["data"]["prediction_id"] for id in ids] == ids


def test_files_of_many_processes_and_batches_have_different_names() -> None:
    sources = [IdSource() for _ in range(20)]
    ids = [source.next() for source in sources for _ in range(3)]
    names = [file_key(number, [answered(id=id)]) for id in ids for number in (0, 1)]
    assert len(set(names)) >= len(sources) * 2


def test_a_store_that_is_down_costs_the_bound_and_no_more_and_is_tried_again(tmp_path: Path) -> None:
    counts, down = Counts(), tmp_path / "store"
    down.write_text("a file where the folder should be")
    config = PredictionLogConfig(flush_seconds=0.1, batch_records=10, max_pending_records=20)
    log = PredictionLog(open_store(str(down)), config, counts)
    kept = [answered() for _ in range(50)]
    taken = [log.put(one) for one in kept]
    assert taken == [True] * 20 + [False] * 30
    assert (log.pending, counts.of) == (20, {"dropped": 30})
    assert log.get(kept[0].prediction_id) is kept[0], "what waits is known"
    down.unlink()
    wait_for(lambda: log.pending == 0)
    assert counts.of == {"dropped": 30, "written": 20}
    log.close()
    assert sum(len(read_parquet(log._store.get_bytes(key))) for key in keys(log._store)) == 20


def test_a_store_that_stays_down_does_not_hold_up_the_end(tmp_path: Path) -> None:
    counts, down = Counts(), tmp_path / "store"
    down.write_text("a file where the folder should be")
    log = PredictionLog(open_store(str(down)), PredictionLogConfig(), counts)
    log.put(answered(texts=["a", "b"]))
    log.close(seconds=0.2)
    assert counts.of == {"dropped": 2}


def test_kept_texts_are_bounded_in_bytes(tmp_path: Path) -> None:
    down = tmp_path / "store"
    down.write_text("a file where the folder should be")
    log = PredictionLog(open_store(str(down)), PredictionLogConfig(max_pending_bytes=1000))
    assert log.put(answered(texts=["x" * 900]))
    assert not log.put(answered(texts=["x" * 200]))
    assert log.put(answered(texts=["x" * 100]))
    log.close(seconds=0.1)


def test_what_was_answered_of_late_is_known_within_bounds(store: ObjectStore) -> None:
    log = PredictionLog(store, PredictionLogConfig(flush_seconds=0.1, max_pending_records=10))
    first = answered()
    log.put(first)
    for _ in range(30):
        while not log.put(answered()):
            time.sleep(0.01)
    assert log.get(first.prediction_id) is None
    assert len(log._recent) <= 10
    log.close()


def test_many_threads_lose_nothing(store: ObjectStore) -> None:
    counts = Counts()
    log = PredictionLog(store, PredictionLogConfig(batch_records=37, flush_seconds=0.1), counts)
    threads = [threading.Thread(target=lambda: [log.put(answered()) for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert counts.of == {"written": 1600}
    ids = [e["data"]["prediction_id"] for key in keys(store) for e in read_parquet(store.get_bytes(key))]
    assert len(ids) == len(set(ids)) == 1600


WRITER = """
import sys
from fairlead.predictions.config import PredictionLogConfig
from fairlead.predictions.log import PredictionLog
from fairlead.storage import open_store
from tests.predictions.records import answered
log = PredictionLog(open_store(sys.argv[1]), PredictionLogConfig(batch_records=20, flush_seconds=0.1))
print("ready", flush=True)
while True:
    log.put(answered(texts=["x" * 200]))
"""


def test_a_kill_leaves_whole_files_only(store: ObjectStore) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, store.url], stdout=subprocess.PIPE, cwd=ROOT, env=environment
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        before = len(keys(store))
        wait_for(lambda before=before: len(keys(store)) > before + 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert all(read_parquet(store.get_bytes(key)) for key in keys(store))


def test_what_is_old_is_removed_and_nothing_else(store: ObjectStore) -> None:
    for hour in ("2026-03-01/23", "2026-03-02/00"):
        store.put_bytes(f"predictions/support_topics/{hour}/00000000-000000-0-0.parquet", b"")
    log = PredictionLog(store, PredictionLogConfig())
    log.put(answered())
    log.close()
    old = {f"predictions/support_topics/2026-03-{day}/": 1 for day in ("01", "02")}
    assert remove_older(store, 3600, dry_run=True) == old and len(keys(store)) == 3
    assert remove_older(store, 3600) == old and len(keys(store)) == 1
    assert remove_older(store, 0) == {}, "this hour is not over"
