"""`fairlead predict` and `fairlead serve` on a registered tiny version: in this process and over HTTP."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fairlead.cli.served import BYTES_IN_A_REQUEST, TEXTS_IN_A_REQUEST, ask, requests, served
from fairlead.errors import FairleadError, NotFound
from fairlead.formats.model import read_manifest

ROOT = Path(__file__).parent.parent.parent
TEXTS = ["where is the parcel", "refund please my card was charged twice"]


@pytest.fixture
def version(register, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    return read_manifest(register(0))


def test_predict_in_this_process(fairlead, version, tmp_path, monkeypatch):
    answers = fairlead("predict", "support_topics", *TEXTS, "--json").json
    assert [a["text"] for a in answers] == TEXTS
    assert {a["version"] for a in answers} == {"support_topics_v1"} and {a["digest"] for a in answers} == {
        version.digest
    }
    assert all(a["label"] in version.labels and 1 / 3 <= a["probability"] <= 1 for a in answers)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n\n")
    from_file = fairlead("predict", "support_topics:1", "--file", tmp_path / "texts.txt", "--json").json
    assert from_file == answers
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS)))
    assert fairlead("predict", "support_topics@champion", "--file", "-", "--json").json == answers
    table = fairlead("predict", "support_topics", *TEXTS).out.splitlines()
    assert table[0].split() == ["label", "probability", "text"] and table[-1].split() == [
        "support_topics_v1",
        version.digest,
    ]


def test_predict_by_a_server_gives_the_same_answers(fairlead, register, version, tmp_path):
    here = fairlead("predict", "support_topics", *TEXTS, "--json").json
    with served("support_topics:1") as url:
        there = fairlead("predict", "support_topics", *TEXTS, "--url", url, "--json").json
        wrong_version = fairlead("predict", "support_topics:7", "a", "--url", url)
        champion = fairlead("predict", "support_topics@champion", "a", "--url", url)
        register(1)
        moved = fairlead("predict", "support_topics@champion", "a", "--url", url)
        unknown = fairlead("predict", "support_topics@challenger", "a", "--url", url)
        (tmp_path / "many.txt").write_text("\n".join(f"{TEXTS[n % 2]} {n}" for n in range(1100)))
        many = fairlead("predict", "support_topics", "--url", url, "--file", tmp_path / "many.txt", "--json")
        wrong_model = fairlead("predict", "another", "a", "--url", url)
        assert ask(url, "support_topics", TEXTS)[0]["prediction_id"]
    for a, b in zip(here, there, strict=True):
        assert (a["label"], a["version"], a["digest"]) == (b["label"], b["version"], b["digest"])
        assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)
    assert wrong_version.code == 2 and "support_topics_v1 answered" in wrong_version.err
    assert champion.code == 0 and champion.out.splitlines()[-1].startswith("support_topics_v1  sha256:")
    assert moved.code == 2 and "support_topics_v1 answered, not support_topics@champion" in moved.err
    assert unknown.code == 2 and "ask for support_topics" in unknown.err and unknown.err.count("\n") == 1
    assert [answer["text"] for answer in many.json] == (tmp_path / "many.txt").read_text().splitlines()
    assert [a["label"] for a in many.json] == [
        a["label"] for a in fairlead("predict", "support_topics:1", "-f", tmp_path / "many.txt", "--json").json
    ]
    assert wrong_model.code == 2 and "404" in wrong_model.err
    gone = fairlead("predict", "support_topics", "a", "--url", url)
    assert gone.code == 2 and "no server answers" in gone.err and gone.err.count("\n") == 1


def test_texts_are_sent_in_parts_that_a_server_accepts():
    many = [str(number) for number in range(2 * TEXTS_IN_A_REQUEST + 1)]
    assert [len(part) for part in requests(many)] == [TEXTS_IN_A_REQUEST, TEXTS_IN_A_REQUEST, 1]
    half = "é" * (BYTES_IN_A_REQUEST // 4)
    assert list(requests([half, half, "a", half * 3, "b"])) == [[half, half], ["a"], [half * 3], ["b"]]
    assert list(requests([])) == []


def test_progress_is_told_while_texts_are_predicted(fairlead, version, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("fairlead.cli.display.Display.on_event", lambda self, event: told.append(event))
    (tmp_path / "many.txt").write_text("\n".join(TEXTS * 300))
    assert fairlead("predict", "support_topics", "--file", tmp_path / "many.txt", "--json").code == 0
    last = [event for event in told if event["stage"] == "predict"][-1]
    assert (last["done"], last["total"], last["unit"]) == (600, 600, "texts")


def test_a_server_that_cannot_start_says_why(version, home):
    with pytest.raises(FairleadError, match="there is no version 'support_topics_v9'"), served("support_topics:9"):
        pass


SERVE_AND_WAIT = """
import sys, time
from fairlead.cli.served import served
with served(sys.argv[1]) as url:
    print(url, flush=True)
    time.sleep(600)
"""


def test_a_server_does_not_outlive_a_killed_parent(version, home):
    parent = subprocess.Popen(
        [sys.executable, "-c", SERVE_AND_WAIT, "support_topics"], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    url = parent.stdout.readline().strip()
    (server,) = psutil.Process(parent.pid).children()
    try:
        assert ask(url, "support_topics", ["a"])
        parent.kill()
        server.wait(timeout=60)
    finally:
        parent.kill()
        parent.communicate()
        for process in (server,) if server.is_running() else ():
            process.kill()
    with pytest.raises(NotFound, match="no server answers"):
        ask(url, "support_topics", ["a"])


def test_serve_becomes_the_server_and_stops_on_ctrl_c(version, home):
    command = [
        sys.executable,
        "-m",
        "fairlead.cli.main",
        "serve",
        "support_topics",
        "--http-port",
        "0",
        "--grpc-port",
        "0",
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        ready = json.loads(child.stdout.readline())
        assert ready["version"] == "support_topics_v1" and ready["digest"] == version.digest
        assert ask(ready["http"], "support_topics", TEXTS)[0]["label"] in version.labels
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0 and "Traceback" not in err
    assert err.startswith("serving support_topics_v1; Ctrl-C stops it")
    assert (home / "models" / "support_topics" / "v0001").is_dir()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "support_topics"], "predict: there is no text"),
        (["predict", "support_topics", "--file", "missing.txt"], "--file missing.txt: No such file"),
        (["predict", "suport_topics", "a"], "did you mean 'support_topics'"),
        (["serve", "suport_topics"], "did you mean 'support_topics'"),
        (["serve", "support_topics:9"], "there is no version 'support_topics_v9'"),
        (["serve", "support_topics", "--http-port", "99999"], "--http-port"),
    ],
)
def test_a_mistake_is_one_line(fairlead, version, arguments, sentence):
    outcome = fairlead(*arguments)
    assert outcome.code == 2 and sentence in outcome.err and outcome.err.count("\n") == 1


def test_a_tampered_model_is_refused(fairlead, version, home):
    assert fairlead("predict", "support_topics", "a").code == 0
    weights = home / "models" / "support_topics" / "v0001" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    outcome = fairlead("predict", "support_topics", "a")
    assert outcome.code == 2 and "model.safetensors" in outcome.err and outcome.err.count("\n") == 1
