"""Bad input, each with its one-line error and nothing lost, through the command that people type.

A tampered model file has its test in tests/cli/test_predict.py.
"""

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.formats import dataset

CLASSES = ("card", "loan")


def rows(count: int, labels: tuple[str, ...] = CLASSES) -> str:
    return "text,label\n" + "".join(f"question number {i} about it,{labels[i % len(labels)]}\n" for i in range(count))


def run(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None, limit: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`fairlead run` on data.csv up to ingest; `limit` is the largest file that the disk takes, in bytes."""
    command = [sys.executable, "-m", "fairlead.cli.main", "run", "--project", "bad_input", "--until", "ingest"]
    if "--data" not in arguments:
        command += ["--data", "data.csv"]
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None,
        capture_output=True,
        text=True,
        check=False,
    )


def sentence(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one line that a failed command leaves on stderr."""
    assert done.returncode == code, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return errors[0]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        pytest.param(None, [], ["data.csv", "no such file"], id="missing file"),
        pytest.param(b"", [], ["data.csv", "empty"], id="empty file"),
        pytest.param(b"text,label\n", [], ["data.csv", "no rows"], id="header only"),
        pytest.param(rows(40, ("card",)).encode(), [], ["at least two classes", "'card'"], id="one class only"),
        pytest.param((rows(40) + "alone,rare\n").encode(), [], ["'rare'"], id="a class with one row"),
        pytest.param(rows(40).encode(), ["--text", "body"], ["'body'", "text"], id="no such column"),
        pytest.param(bytes(range(256)) * 50, [], ["data.csv", "binary"], id="binary file"),
        pytest.param(
            rows(20000, tuple(f"c{i}" for i in range(10000))).encode(),
            [],
            ["more than 1000 different labels"],
            id="10,000 classes",
        ),
        pytest.param(rows(40).encode(), ["--set", "training.learning_rat=1"], ["learning_rate"], id="unknown setting"),
        pytest.param(rows(40).encode(), ["--set", "training.batch_size=many"], ["batch_size", "many"], id="bad value"),
        pytest.param(rows(40).encode(), ["--until", "tokenise"], ["tokenize"], id="unknown stage"),
    ],
)
def test_a_mistake_ends_in_one_line_that_names_it(
    tmp_path: Path, content: bytes | None, arguments: list[str], words: list[str]
) -> None:
    if content is not None:
        (tmp_path / "data.csv").write_bytes(content)
    said = sentence(run(tmp_path, *arguments))
    for word in words:
        assert word in said
    if content is not None:
        assert (tmp_path / "data.csv").read_bytes() == content


def test_a_row_of_5_mb_is_set_aside_and_the_others_go_on(tmp_path: Path, home: Path) -> None:
    (tmp_path / "data.csv").write_text(rows(400) + f"{'long ' * 1_000_000},card\n")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = home.glob("pipeline/*/ingest/output")
    assert sum(split.num_rows for split in dataset.read_manifest(folder).splits.values()) == 400
    (rejected,) = (folder / dataset.REJECTED).read_text("utf-8").splitlines()
    assert '"line": 402' in rejected


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(rows(20_000))
    said = sentence(run(tmp_path, limit=200_000), code=1)
    assert "free space" in said
    assert run(tmp_path).returncode == 0


def test_an_object_store_that_is_away_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(rows(40))
    environment = {
        "FAIRLEAD_STORE": "s3://models",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed_port()}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "a-secret-that-is-never-printed",
    }
    done = run(tmp_path, environment=environment)
    assert "s3://models" in sentence(done, code=1)
    assert environment["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
    assert run(tmp_path).returncode == 0
