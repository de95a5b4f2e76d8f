"""The whole road, run for real: what is run again when something changes, and what is left when it is killed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.cluster.arguments import STAGES
from fairlead.cluster.local import LocalRun
from fairlead.errors import DataError, GateFailed
from fairlead.formats import dataset
from fairlead.formats.atomic import write_json
from fairlead.formats.evaluation import read_report
from fairlead.formats.model import read_training
from fairlead.registry import open_registry
from tests.pipelines.road import go, write_data

ROOT = Path(__file__).parent.parent.parent
# A laptop deploys to nothing.
ROAD = STAGES[: STAGES.index("deploy")]


def again(run: LocalRun) -> set[str]:
    """The stages that were not cached."""
    return {name for name, stage in run.stages.items() if not stage.cached}


def versions() -> list[str]:
    with open_registry() as registry:
        return [version.name for version in registry.list_versions("tiny_topics")]


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an unbroken run finds, once any test of the session has gone one to its end."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "unbroken_road.json"


@pytest.mark.timeout(900)
def test_exactly_the_stages_that_depend_on_a_change_run_again(tmp_path: Path, found: Path) -> None:
    data = write_data(tmp_path / "data.csv")
    first = go(data)
    write_json(found, digests(first))
    assert again(first) == set(ROAD)
    assert versions() == ["tiny_topics_v1"]

    second = go(data)
    assert again(second) == set()
    assert {name: stage.outputs for name, stage in second.stages.items()} == {
        name: stage.outputs for name, stage in first.stages.items()
    }
    assert second.stages["evaluate"].rows == first.stages["evaluate"].rows

    # What is proposed lies outside of the run, so that no cached result stands for it.
    repository = serving_an_older_version(tmp_path / "manifests")
    gitops = ("deploy.mode=gitops", f"deploy.repository={repository}")
    for _ in range(2):
        proposed = go(data, *gitops)
        assert again(proposed) == {"deploy"}
        assert proposed.stages["deploy"].rows["branch"] == "promote/dev/tiny_topics_v1"
    assert git(repository, "rev-list", "--count", "main..promote/dev/tiny_topics_v1").strip() == "1"

    assert again(go(data, "evaluation.gate={accuracy: 0.01}")) == {"gate", "register"}
    assert versions() == ["tiny_topics_v1"]
    with pytest.raises(GateFailed, match="accuracy"):
        go(data, "evaluation.gate={accuracy: 1.5}")
    # The champion may have changed since the evaluation that the gate refused.
    assert again(go(data, until="evaluate")) == {"evaluate"}
    # What the others depend on, test_training.py reads from the definition.
    data.write_text(data.read_text().replace("wave", "cave", 1))
    assert again(go(data, until="tokenize")) == {"ingest", "tokenize"}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.test")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def serving_an_older_version(folder: Path) -> Path:
    """A repository whose dev serves a version 9 of another time."""
    models = folder / "manifests" / "overlays" / "dev" / "models"
    shutil.copytree(ROOT / "manifests" / "overlays" / "dev" / "models" / "library-docs", models / "tiny-topics")
    release = models / "tiny-topics" / "release.yaml"
    text = release.read_text().replace("library_docs", "tiny_topics").replace("library-docs", "tiny-topics")
    release.write_text(text.replace("/v0001/", "/v0009/"))
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Begin")
    return folder


@pytest.mark.timeout(300)
def test_a_mistake_in_the_data_is_the_error_of_the_run(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.csv")
    with pytest.raises(DataError, match="no_such_column") as caught:
        go(data, "data.text=no_such_column")
    assert caught.value.exit_code == 2


def killed(data: Path, stage: str, moment: str) -> None:
    """Go the road in a process group of its own that is killed whole at a moment of a stage."""
    command = [sys.executable, str(Path(__file__).parent / "road.py"), str(data), stage, moment]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    assert subprocess.run(command, env=environment, start_new_session=True).returncode < 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(
            [("ingest", "started"), ("train", "progress"), ("optimize", "result"), ("register", "started")],
            id="four-stages",
        ),
        *[
            pytest.param([(stage, moment)], id=f"{stage}-{moment}", marks=pytest.mark.slow)
            for stage in ROAD
            for moment in ("started", "result", "finished")
        ],
    ],
)
def test_a_killed_run_ends_as_an_unbroken_one(
    tmp_path: Path, found: Path, monkeypatch: pytest.MonkeyPatch, moments: list[tuple[str, str]]
) -> None:
    data = write_data(tmp_path / "data.csv")
    for stage, moment in moments:
        killed(data, stage, moment)
    broken = go(data)
    assert versions() == ["tiny_topics_v1"]
    assert broken.stages["register"].rows["version"] == "tiny_topics_v1"

    if not found.exists():
        monkeypatch.setenv("FAIRLEAD_HOME", str(tmp_path / "another"))
        write_json(found, digests(go(data)))
    assert digests(broken) == json.loads(found.read_text())


def digests(run: LocalRun) -> list[object]:
    return [
        dataset.read_manifest(run.stages["ingest"].folder).digest,
        read_training(run.stages["train"].folder).weights_digest,
        read_report(run.stages["evaluate"].folder).evaluations[0].metrics,
    ]
