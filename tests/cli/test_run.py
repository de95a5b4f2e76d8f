"""`fairlead run` and `fairlead compile`: real stages in real processes, and a server that speaks KFP's REST."""

import csv
from pathlib import Path

import pytest

from fairlead.cli.run import run as run_command
from fairlead.cli.sample import sample_values
from fairlead.cluster import remote
from fairlead.project import ProjectConfig
from tests.cluster.kfp_server import RUN_ID, Server, look, serving, task
from tests.pipelines.road import write_data

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def given(here):
    return ["--data", write_data(here / "words.csv"), "--project", "tiny_topics"]


def test_until_stops_there_and_prints_what_was_found_and_the_second_run_is_cached(fairlead, given):
    outcome = fairlead("run", *given, "--until", "ingest")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[0] == "ingest: running"
    assert "tokenize" not in outcome.out
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["ingest", "found"] in lines and ["rows", "read", "90"] in lines and ["classes", "3"] in lines
    second, again = (fairlead("run", *given, "--until", "ingest", "--json", *more) for more in ([], ["--no-cache"]))
    assert [one.json["stages"]["ingest"]["cached"] for one in (second, again)] == [True, False]
    assert second.json["stages"]["ingest"]["found"] == again.json["stages"]["ingest"]["found"]
    assert second.json["stages"]["ingest"]["found"]["rows read"] == 90 and "ingest: cached" in second.err


def test_a_stage_that_refuses_ends_with_its_sentence(fairlead, here):
    (here / "one.csv").write_text("text,label\na,x\nb,x\nc,x\n")
    outcome = fairlead("run", "--data", "one.csv", "--project", "tiny_topics", "--until", "ingest")
    assert outcome.code == 2
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1 and "Traceback" not in outcome.out
    assert outcome.out.splitlines()[-1] == "ingest: failed"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--until", "tokenise"], "there is no stage 'tokenise'; did you mean 'tokenize'"),
        (["--until", "ingest", "--predict", "hello"], "--predict: it needs a registered version"),
        (["--on", "cluster", "--until", "ingest"], "--until: it works on this machine only"),
        (["--on", "cluster"], "is a path on this machine"),
        (["--on", "moon"], "'moon' is not one of"),
        (["--sample"], "--sample: it brings its own data"),
        (["--set", "training.learning_rat=1"], "did you mean 'training.learning_rate'"),
        (["--set", "cluster.gpu=1"], "did you mean 'gpus'"),
        (["--test", "missing.csv"], "data.test: missing.csv: there is no such file"),
        (["--set", "model.base=missing"], "model.base: missing: there is no such file or folder"),
    ],
)
def test_a_mistake_stops_before_anything_runs(fairlead, given, home, arguments, sentence):
    outcome = fairlead("run", *given, *arguments)
    assert outcome.code == 2
    assert sentence in outcome.err and outcome.err.count("\n") == 1
    assert not home.exists()


def test_the_sample_project_is_a_project(home):
    settings = ProjectConfig.parse(sample_values("x.csv"))
    assert settings.project == "library_docs"


def test_the_sample_is_written_and_ingested(fairlead, home):
    found = fairlead("run", "--sample", "--until", "ingest", "--json").json["stages"]["ingest"]["found"]
    with (home / "sample" / "docstrings.csv").open(newline="") as file:
        num_rows = sum(1 for _ in csv.reader(file)) - 1
    assert found["rows read"] == num_rows >= 5000 and found["classes"] >= 8


def test_a_run_on_a_cluster_is_followed_to_its_end(fairlead, monkeypatch):
    for name in ("KF_PIPELINES_ENDPOINT", "KFP_ENDPOINT", remote.TOKEN_ENV, remote.TOKEN_PATH_ENV):
        monkeypatch.delenv(name, raising=False)
    # Nobody is asked for the data itself.
    monkeypatch.setattr("fairlead.cluster.pipelines.input_digests", lambda config: ("sha256:data", ""))
    done = [look("SUCCEEDED", task("ingest", "SUCCEEDED", seconds=9), task("train", "SUCCEEDED", seconds=41))]
    arguments = ["run", "--data", "https://data.example/t.csv", "--project", "topics", "--on", "cluster"]
    with serving(Server(done)) as server:
        outcome = fairlead(*arguments, "--host", server.url)
    assert outcome.code == 0, outcome.err
    assert f"submitted: {server.url}/#/runs/details/{RUN_ID}" in outcome.out
    assert "ingest: done in 9.0 s" in outcome.out and "train: done in 41.0 s" in outcome.out
    failed = [look("FAILED", task("ingest", "FAILED", error="the disk is full"))]
    with serving(Server(failed)) as server:
        outcome = fairlead(*arguments, "--host", server.url)
    assert outcome.code == 1 and outcome.err.startswith("error: ingest: the disk is full")


def test_compile_writes_the_same_bytes_each_time(fairlead, here):
    assert fairlead("compile", "--output", "a/one.yaml").out == "wrote a/one.yaml\n"
    fairlead("compile", "--output", "two.yaml")
    assert (here / "a/one.yaml").read_bytes() == (here / "two.yaml").read_bytes()
    fairlead("compile", "--output", "gpu.yaml", "--set", "cluster.gpus=2")
    assert (
        "nvidia.com/gpu" in (here / "gpu.yaml").read_text() and "nvidia.com/gpu" not in (here / "two.yaml").read_text()
    )
    fairlead("compile", "--output", "native.yaml", "--kubernetes")
    assert "kind: PipelineVersion" in (here / "native.yaml").read_text()


def test_compile_with_a_project_has_its_settings_as_defaults(fairlead, here):
    arguments = ["--data", "s3://raw/t.csv", "--project", "support_topics", "--set", "training.epochs=17"]
    assert fairlead("compile", "--output", "one.yaml", *arguments).code == 0
    text = (here / "one.yaml").read_text()
    assert "s3://raw/t.csv" in text and "support_topics" in text and "epochs: 17" in text
    outcome = fairlead("compile", "--output", "two.yaml", "--data", __file__, "--project", "support_topics")
    assert outcome.code == 2 and "is a path on this machine" in outcome.err


def test_every_option_of_run_is_documented():
    assert all(
        hint.__metadata__[0].help for hint in run_command.__annotations__.values() if hasattr(hint, "__metadata__")
    )
