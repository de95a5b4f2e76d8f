"""fairlead trace and fairlead replay: from a prediction back to everything, and forward again."""

import json
import shutil
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from fairlead import places
from fairlead.formats.digests import of_bytes
from fairlead.formats.model import read_manifest
from fairlead.inference.engine import Engine
from fairlead.predictions.config import PredictionLogConfig
from fairlead.predictions.events import Answered
from fairlead.predictions.ids import IdSource
from fairlead.predictions.log import PredictionLog
from fairlead.registry import Feedback, open_registry
from fairlead.storage import open_store
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
IDS = IdSource()
TEXTS = ["my card was charged twice", "where is the parcel"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAIRLEAD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def answer_of(folder: Path, **changes: object) -> Answered:
    """What a server that keeps texts would log of TEXTS."""
    engine = Engine.load(folder)
    fields = {
        "prediction_id": IDS.next(),
        "project": engine.manifest.project,
        "model": "support-topics",
        "version": engine.manifest.name,
        "digest": engine.manifest.digest,
        "variant": engine.variant,
        "task": "classification",
        "seconds": 0.01,
        "answers": [answer.to_dict() for answer in engine.predict(TEXTS)],
        "texts": TEXTS,
    }
    return Answered(**fields | changes)  # type: ignore[arg-type]


def log(*answered: Answered) -> str:
    written = PredictionLog(open_store(places.store_url()), PredictionLogConfig())
    for one in answered:
        written.put(one)
    written.close()
    return answered[0].prediction_id


def test_a_prediction_is_traced_to_version_run_code_data_settings_and_truth(
    fairlead: Run, register: Callable[[int], Path]
) -> None:
    folder = register(0)
    register(1)
    manifest = read_manifest(folder)
    id = log(answer_of(folder), answer_of(folder))
    with open_registry() as registry:
        registry.record_feedback([Feedback(id, 1, "delivery", "support_topics", 1, {"label": "billing"})])
    found = fairlead("trace", id, "--json")
    assert found.code == 0, found.err
    traced = found.json
    assert [row["text"] for row in traced["prediction"]] == TEXTS
    assert traced["version"]["name"] == "support_topics_v1" and traced["version"]["digest"] == manifest.digest
    assert traced["run"]["run_id"] == manifest.training.run_id
    assert traced["data"]["digest"] == manifest.training.data_digest and traced["data"]["sources"] == {"train": "a.csv"}
    assert traced["code"]["source_digest"] == manifest.training.code.source_digest
    assert traced["settings"] == manifest.training.config
    assert [(one["index"], one["label"]) for one in traced["feedback"]] == [(1, "delivery")]
    shown = fairlead("trace", id).out
    for words in ("support_topics_v1", "run-0001", manifest.digest, manifest.training.data_digest, "model.depth"):
        assert words in shown
    assert "delivery" in shown and "a.csv" in shown


def test_a_replay_gives_the_logged_answer_by_the_version_that_gave_it(
    fairlead: Run, register: Callable[[int], Path]
) -> None:
    folder = register(0)
    # The champion now answers otherwise.
    register(1)
    again = fairlead("replay", log(answer_of(folder)), "--json")
    assert again.code == 0, again.err
    assert again.json["verdict"] == "same" and again.json["version"] == "support_topics_v1"
    assert again.json["variant"] == "torch-fp32" and again.json["distance"] <= 1e-3
    assert again.json["recorded"][0]["label"] == again.json["here"][0]["label"]


@pytest.mark.parametrize(
    ("change", "code", "verdict"), [({"probability": 0.123}, 3, "close"), ({"label": "x"}, 4, "different")]
)
def test_a_replay_that_gives_something_else_says_so(
    change: dict[str, object], code: int, verdict: str, fairlead: Run, register: Callable[[int], Path]
) -> None:
    one = answer_of(register(0))
    id = log(answer_of(register(0), answers=[{**one.answers[0], **change}, one.answers[1]]))
    again = fairlead("replay", id, "--json")
    assert (again.code, again.json["verdict"]) == (code, verdict)
    assert "another answer" in fairlead("replay", id).out or verdict == "close"


def test_a_text_that_was_not_kept_is_asked_for(fairlead: Run, register: Callable[[int], Path]) -> None:
    folder = register(0)
    hashes = [of_bytes(text.encode()) for text in TEXTS]
    for kept, said in (({"texts": None}, "nothing"), ({"texts": None, "digests": hashes}, "its SHA-256")):
        id = log(answer_of(folder, **kept))
        again = fairlead("replay", id, "--json")
        assert (again.code, again.json["verdict"]) == (6, "no text")
        assert said in again.json["reason"] and "--text" in again.json["reason"]
        given = fairlead("replay", id, "--text", TEXTS[0], "--text", TEXTS[1])
        assert given.code == 0, given.out + given.err
    assert fairlead("replay", id, "--text", TEXTS[0]).code == 2
    other = fairlead("replay", id, "--text", TEXTS[0], "--text", "another text")
    assert other.code == 2 and "text 1 is not the one" in other.err


def test_a_version_that_is_gone_or_another_is_a_broken_link(
    fairlead: Run, register: Callable[[int], Path], home: Path
) -> None:
    folder = register(0)
    for change in ({"version": "support_topics_v9"}, {"digest": "sha256:" + "0" * 64}):
        id = log(answer_of(folder, **change))
        again = fairlead("replay", id, "--json")
        assert (again.code, again.json["verdict"], again.json["link"]) == (5, "broken", "version")
        assert fairlead("trace", id).code == 5
    id = log(answer_of(folder))
    shutil.rmtree(home / "store" / "models")
    shutil.rmtree(home / "models", ignore_errors=True)
    assert fairlead("replay", id, "--json").json["link"] == "files"
    assert fairlead("trace", id).code == 0, "who answered is known without the files"


@pytest.mark.parametrize("id", ["mine", "019caf9e-e3ff-7abc-8000-000000000000"])
def test_an_id_without_a_record_is_the_users_mistake_and_says_why(
    id: str, fairlead: Run, register: Callable[[int], Path]
) -> None:
    register(0)
    for command in ("trace", "replay"):
        outcome = fairlead(command, id)
        assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "no record" in outcome.err or "not one" in outcome.err


class Known(BaseHTTPRequestHandler):
    """A server that knows one prediction."""

    events: ClassVar[list[object]] = []

    def do_GET(self) -> None:
        known = self.events and self.path.endswith(self.events[0]["data"]["prediction_id"])  # type: ignore[index]
        body = json.dumps({"events": self.events} if known else {"error": "prediction: it is not here"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_is_asked_for_what_is_not_written_yet(fairlead: Run, register: Callable[[int], Path]) -> None:
    one = answer_of(register(0))
    Known.events = list(one.events())
    with HTTPServer(("127.0.0.1", 0), Known) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        assert fairlead("trace", one.prediction_id, "--url", url).code == 0
        assert fairlead("replay", one.prediction_id, "--url", url).code == 0
        unknown = fairlead("trace", IDS.next(), "--url", url)
        assert unknown.code == 2 and "it is not here" in unknown.err
        server.shutdown()
    assert fairlead("trace", one.prediction_id, "--url", url).code == 2
