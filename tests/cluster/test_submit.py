import socket
from pathlib import Path
from typing import Any

import pytest

from fairlead.cluster import remote
from fairlead.cluster.pipelines import RemoteRun, submit
from fairlead.errors import ClusterError, ConfigError
from fairlead.project import ProjectConfig
from tests.cluster.kfp_server import RUN_ID, Server, look, serving, task

SUCCESS = [
    look("PENDING"),
    look("RUNNING", task("root", "RUNNING"), task("ingest", "RUNNING"), task("ingest-driver", "SUCCEEDED")),
    look("RUNNING", task("ingest", "SUCCEEDED", seconds=9), task("tokenize", "SKIPPED"), task("train", "RUNNING")),
    look("SUCCEEDED", task("ingest", "SUCCEEDED"), task("tokenize", "SKIPPED"), task("train", "SUCCEEDED", seconds=41)),
]


@pytest.fixture(autouse=True)
def no_other_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KF_PIPELINES_ENDPOINT", "KFP_ENDPOINT", remote.TOKEN_ENV, remote.TOKEN_PATH_ENV):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ProjectConfig:
    # The data is on an https:// server that is not asked here: only its fingerprint is needed.
    monkeypatch.setattr("fairlead.cluster.pipelines.input_digests", lambda config: ("sha256:data", ""))
    return ProjectConfig.parse({"project": "topics", "data": {"source": "https://data.example/t.csv"}})


def run(config: ProjectConfig, server: Server, events: list[dict[str, Any]] | None = None, **options: Any) -> RemoteRun:
    sink = (events if events is not None else []).append
    return submit(config, host=server.url, on_event=sink, poll_seconds=0.01, **options)


def test_a_run_is_submitted_followed_and_ends(config: ProjectConfig) -> None:
    events: list[dict[str, Any]] = []
    with serving(Server(list(SUCCESS))) as server:
        done = run(config, server, events)
        assert done == RemoteRun(
            RUN_ID,
            f"{server.url}/#/runs/details/{RUN_ID}",
            {"ingest": "finished", "tokenize": "cached", "train": "finished"},
        )
    assert [(e["stage"], e.get("status")) for e in events] == [
        ("run", None),
        ("ingest", "started"),
        ("ingest", "finished"),
        ("tokenize", "cached"),
        ("train", "started"),
        ("train", "finished"),
    ]
    assert events[-1]["seconds"] == 41


def test_what_is_submitted_is_the_pipeline_with_its_arguments(config: ProjectConfig) -> None:
    with serving(Server(list(SUCCESS))) as server:
        run(config, server)
    (body,) = server.submitted
    parameters = body["runtime_config"]["parameters"]
    assert parameters["source_digest"] == "sha256:data"
    assert parameters["data"]["source"] == "https://data.example/t.csv"
    spec = body["pipeline_spec"]["pipeline_spec"]
    assert spec["pipelineInfo"]["name"] == "fairlead-training"
    assert spec["root"]["dag"]["tasks"]["ingest"]["cachingOptions"] == {"enableCache": True}
    assert "kubernetes" in body["pipeline_spec"]["platform_spec"]["platforms"]


def test_a_failed_run_ends_with_the_reason_of_the_failed_stage(config: ProjectConfig) -> None:
    failed = look(
        "FAILED",
        task("root", "FAILED", "a child failed"),
        task("evaluate", "SUCCEEDED"),
        task("gate", "FAILED", "gate: macro_f1 is 0.61,\n below the floor 0.85; train longer"),
    )
    with serving(Server([look("RUNNING"), failed])) as server, pytest.raises(ClusterError) as caught:
        run(config, server)
    assert str(caught.value) == (
        "gate: gate: macro_f1 is 0.61, below the floor 0.85; train longer; "
        f"see the step's log at {server.url}/#/runs/details/{RUN_ID}"
    )


def test_a_run_that_fails_before_any_stage_says_what_the_server_says(config: ProjectConfig) -> None:
    failed = look("FAILED", error="no quota for pods")
    with serving(Server([failed])) as server, pytest.raises(ClusterError, match=r"^run: no quota for pods; see"):
        run(config, server)


def test_a_cancelled_run_is_not_a_success(config: ProjectConfig) -> None:
    with serving(Server([look("CANCELED")])) as server, pytest.raises(ClusterError, match=r"ended as CANCELED"):
        run(config, server)


def test_a_server_that_is_away_for_a_moment_is_forgiven(config: ProjectConfig) -> None:
    looks = [SUCCESS[0], *[{"status": 503}] * (remote.MAX_FAILED_LOOKS - 1), SUCCESS[-1]]
    with serving(Server(looks)) as server:
        assert run(config, server).stages["train"] == "finished"


def test_a_server_that_stays_away_is_one_sentence(config: ProjectConfig) -> None:
    server = Server([{"status": 503, "message": "no healthy upstream"}])
    with serving(server), pytest.raises(ClusterError, match=r"it answered 503 \(no healthy upstream\); check"):
        run(config, server)


def test_a_server_that_is_down_is_one_sentence(config: ProjectConfig, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://user:hunter2@127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ClusterError, match=r"no Kubeflow Pipelines API answers there .*POINT") as caught:
            submit(config, host=url, poll_seconds=0.01)
    assert "hunter2" not in str(caught.value) + "".join(capfd.readouterr())


def test_a_token_is_sent_and_never_printed(
    config: ProjectConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("s3cret-token")
    monkeypatch.setenv(remote.TOKEN_PATH_ENV, str(tmp_path / "token"))
    with serving(Server(list(SUCCESS), token="s3cret-token")) as server:
        events: list[dict[str, Any]] = []
        done = run(config, server, events)
    assert "Bearer s3cret-token" in server.authorizations
    assert "s3cret-token" not in "".join(capfd.readouterr()) + str(done) + str(events)


def test_a_missing_token_is_one_sentence(config: ProjectConfig) -> None:
    with serving(Server(SUCCESS, token="t")) as server, pytest.raises(ClusterError, match=r"answered 401 .*the token"):
        run(config, server)


def test_the_address_may_come_from_the_environment(config: ProjectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server(list(SUCCESS))) as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        assert submit(config, poll_seconds=0.01).run_id == RUN_ID


@pytest.mark.parametrize(
    "settings",
    [
        {"data": {"source": "tickets.csv"}},
        {"data": {"source": "https://a/t.csv", "test": "/data/test.csv"}},
        {"data": {"source": "https://a/t.csv", "extra": {"legal": "legal.csv"}}},
        {"data": {"source": "https://a/t.csv"}, "model": {"base": "./encoder"}},
    ],
)
def test_paths_of_this_machine_are_refused(settings: dict[str, Any]) -> None:
    config = ProjectConfig.parse({"project": "topics", **settings})
    with pytest.raises(ConfigError, match=r"is a path on this machine, .* s3://, https:// or hf://"):
        submit(config, host="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("file:///data/t.csv", "is a path on this machine"),
        ("ftp://bob:hunter2@host/t.csv", "ftp:// is not supported; put it on s3://"),
        ("https://bob:hunter2@host/t.csv", "has a user, password or query"),
        ("https://host/t.csv?sig=topsecret", "has a user, password or query"),
    ],
)
def test_addresses_that_no_cluster_may_be_told_are_refused_without_their_secrets(address: str, words: str) -> None:
    config = ProjectConfig.parse({"project": "topics", "data": {"source": "hf://datasets/a/b@main", "test": address}})
    with pytest.raises(ConfigError) as caught:
        submit(config, host="http://127.0.0.1:1")
    assert str(caught.value).startswith("data.test: ") and words in str(caught.value)
    assert "hunter2" not in str(caught.value) and "topsecret" not in str(caught.value)
