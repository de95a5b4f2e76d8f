"""The deploy stage: a registered version on a cluster over HTTP, or proposed to a bare git repository."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.cluster import deployment, gitops, rollout
from fairlead.cluster.arguments import refuse_local, stages
from fairlead.cluster.deploying import deploy_stage
from fairlead.cluster.gitops import Repository, cloned
from fairlead.errors import ClusterError, ConfigError, Conflict, NotFound
from fairlead.project import DeployConfig, ProjectConfig
from fairlead.registry import open_registry
from tests.cli.records import PROJECT, add_version
from tests.cluster.kserve import KServe, digest_of
from tests.cluster.kubernetes_objects import Cluster
from tests.cluster.kubernetes_server import enter, serving

MANIFESTS = Path(__file__).parent.parent.parent / "manifests"
MODEL = "manifests/overlays/dev/models/support-topics"
BRANCH = "promote/dev/support_topics_v2"
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.test")


def registered(folder: Path, number: int) -> Path:
    """What the register stage leaves of a version."""
    name = f"{PROJECT}_v{number}"
    folder.mkdir(exist_ok=True)
    (folder / "version.json").write_text(json.dumps({"name": name, "number": number, "digest": digest_of(name)}))
    return folder


def run(folder: Path, number: int, mode: str, **config: Any) -> dict[str, Any]:
    deploy_stage.inner(str(registered(folder / f"v{number}", number)), mode, config, str(folder / "out"))  # type: ignore[attr-defined]
    found: dict[str, Any] = json.loads((folder / "out" / "deployment.json").read_text())
    return found


# Direct ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(crds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, KServe]]:
    for module in (deployment, rollout):
        monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setenv("FAIRLEAD_STORE", "s3://fairlead")
    with serving(Cluster()) as cluster:
        cluster.install(crds / "kserve" / "serving.kserve.io_inferenceservices.yaml")
        enter(cluster, tmp_path, monkeypatch)
        controller = KServe(cluster, {"v0003": {"phase": "Pending"}})
        thread = threading.Thread(target=controller.run, daemon=True)
        thread.start()
        yield cluster, controller
        controller.ending.set()
        thread.join(10)


def uri(cluster: Cluster) -> str:
    found = cluster.get("inferenceservices", "support-topics")
    assert found is not None
    return str(found["spec"]["predictor"]["model"]["storageUri"])


def test_direct_serves_the_version_and_the_one_before_when_it_cannot(
    cluster: tuple[Cluster, KServe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, _ = cluster
    outcome = run(tmp_path, 2, "direct", namespace="team")
    assert outcome == {
        "mode": "direct",
        "version": "support_topics_v2",
        "namespace": "team",
        "digest": "sha256:support_topics_v2",
    }
    assert "deploy: applied InferenceService team/support-topics with support_topics_v2" in capsys.readouterr().out
    with pytest.raises(ClusterError, match=r"still answers as support_topics_v2 .*/v0002/ is served again"):
        run(tmp_path, 3, "direct", namespace="team", timeout_seconds=1)
    assert uri(server) == "s3://fairlead/models/support_topics/v0002/"


def test_direct_asks_the_endpoint_that_is_named(cluster: tuple[Cluster, KServe], tmp_path: Path) -> None:
    server, _ = cluster
    address = f"{server.url}/api/v1/namespaces/team/services/support-topics-predictor:80/proxy"
    assert run(tmp_path, 2, "direct", namespace="team", endpoint=address)["digest"] == "sha256:support_topics_v2"
    with pytest.raises(ClusterError, match="the endpoint does not answer after 1 s"):
        run(tmp_path, 2, "direct", namespace="team", endpoint=f"{server.url}/nothing", timeout_seconds=1)


def test_mode_none_reaches_for_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, 2, "none") == {
        "mode": "none",
        "version": "support_topics_v2",
        "digest": digest_of(f"{PROJECT}_v2"),
    }


# GitOps ----------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bare repository whose dev serves version 1, a registry with two versions, and a machine that nobody set up."""
    monkeypatch.setenv("FAIRLEAD_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("EMAIL", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    shutil.copytree(MANIFESTS / "overlays", work / "manifests" / "overlays")
    model = work / MODEL
    shutil.copytree(work / "manifests/overlays/dev/models/library-docs", model)
    release = model / "release.yaml"
    release.write_text(release.read_text().replace("library_docs", PROJECT).replace("library-docs", "support-topics"))
    git(work, "init", "--quiet", "--initial-branch", "main")
    commit(work, "Begin")
    bare = tmp_path / "remote.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(work), str(bare))
    with open_registry() as registry:
        add_version(registry, 1, accuracy=0.9)
        add_version(registry, 2, accuracy=0.93)
    return bare


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, *IDENTITY, "commit", "--quiet", "--message", message)


def merge(remote: Path) -> None:
    """Merge the proposal as a forge would."""
    work = remote.parent / "work"
    git(work, "fetch", "--quiet", str(remote), BRANCH)
    git(work, *IDENTITY, "merge", "--quiet", "--no-ff", "FETCH_HEAD", "--message", "Merge")
    git(work, "push", "--quiet", str(remote), "main")


def revert(remote: Path) -> None:
    """Take the merge back."""
    work = remote.parent / "work"
    git(work, *IDENTITY, "revert", "--no-edit", "--mainline", "1", "HEAD")
    git(work, "push", "--quiet", str(remote), "main")


def propose(tmp_path: Path, remote: Path, number: int = 2, **config: Any) -> dict[str, Any]:
    return run(tmp_path, number, "gitops", repository=str(remote), **config)


def branches(remote: Path) -> list[str]:
    return git(remote, "branch", "--format=%(refname:short)").split()


def test_gitops_proposes_one_line_once(remote: Path, tmp_path: Path) -> None:
    first, second = propose(tmp_path, remote), propose(tmp_path, remote)
    assert first == second
    assert (first["branch"], first["commit"]) == (BRANCH, git(remote, "rev-parse", BRANCH).strip())
    assert branches(remote) == ["main", BRANCH]
    assert git(remote, "rev-list", "--count", f"main..{BRANCH}").strip() == "1"
    assert git(remote, "diff", "--numstat", "main", BRANCH).split()[:2] == ["1", "1"]
    assert git(remote, "log", "-1", "--format=%an: %s", BRANCH).strip() == "fairlead: Promote support_topics_v2 in dev"


def test_what_was_merged_is_not_proposed_and_what_was_reverted_is_proposed_anew(remote: Path, tmp_path: Path) -> None:
    before = propose(tmp_path, remote)["commit"]
    merge(remote)
    assert propose(tmp_path, remote)["commit"] is None
    revert(remote)
    after = propose(tmp_path, remote)["commit"]
    assert after not in (None, before)
    assert git(remote, "rev-list", "--count", f"main..{BRANCH}").strip() == "1"


def test_a_concurrent_push_of_the_same_is_one_branch_and_one_commit(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between this run's look and its push another run pushes the same proposal, and somebody pushes to main."""
    push, others = Repository.push, []

    def after_another(self: Repository, to: str, branch: str) -> None:
        if not others:
            others.append("")
            monkeypatch.setenv("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
            others[0] = propose(tmp_path / "b", remote)["commit"]
            work = tmp_path / "work"
            (work / "note").write_text("meanwhile")
            commit(work, "Meanwhile")
            git(work, "push", "--quiet", str(remote), "main")
        push(self, to, branch)

    (tmp_path / "b").mkdir()
    # The two commits differ, though they say the same.
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2025-01-01T00:00:00Z")
    monkeypatch.setattr(Repository, "push", after_another)
    assert propose(tmp_path, remote)["commit"] == others[0] == git(remote, "rev-parse", BRANCH).strip()
    assert git(remote, "rev-list", "--count", f"main..{BRANCH}").strip() == "1"
    assert git(remote, "log", "-1", "--format=%s", "main").strip() == "Meanwhile"


def test_a_push_that_is_refused_leaves_nothing_behind(remote: Path, tmp_path: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'only the platform team pushes here' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(ClusterError, match=r"git push: ! \[remote rejected\].*pre-receive hook declined"):
        propose(tmp_path, remote)
    assert branches(remote) == ["main"]
    hook.unlink()
    assert propose(tmp_path, remote)["branch"] == BRANCH


def test_a_branch_that_holds_something_else_is_left(remote: Path, tmp_path: Path) -> None:
    git(remote, "branch", BRANCH, "main")
    with pytest.raises(Conflict, match="holds something else"):
        propose(tmp_path, remote)


@pytest.mark.parametrize(
    ("config", "kind", "reason"),
    [
        ({"branch": "nowhere"}, NotFound, "no such file at nowhere of .*remote.git"),
        ({"environment": "stage"}, NotFound, "overlays/stage/models/support-topics/release.yaml"),
    ],
)
def test_a_wrong_place_is_named(
    remote: Path, tmp_path: Path, config: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        propose(tmp_path, remote, **config)


def test_credentials_are_read_when_git_asks_and_go_to_their_host_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FAIRLEAD_GIT_USERNAME", "robot")
    monkeypatch.setenv("FAIRLEAD_GIT_PASSWORD", "s3cr et$")
    settings = gitops._settings("https://git.example.test/team/models.git")
    assert "s3cr" not in str(settings)

    def asked(host: str) -> str:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        wanted = f"protocol=https\nhost={host}\n\n"
        monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")
        monkeypatch.setenv("GIT_ASKPASS", "false")
        command = ["git", "credential", "fill"]
        return subprocess.run(command, input=wanted, capture_output=True, text=True, check=False).stdout

    assert "username=robot\npassword=s3cr et$" in asked("git.example.test")
    assert "robot" not in asked("elsewhere.example.test")


def test_a_repository_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"git fetch: '.*nothing.git' does not appear to be a git repository"):
        cloned(str(tmp_path / "nothing.git")).__enter__()


# Settings --------------------------------------------------------------------------------------------------


def project(**deploy: Any) -> ProjectConfig:
    return ProjectConfig.parse({"project": "topics", "data": {"source": "s3://raw/t.csv"}, "deploy": deploy})


@pytest.mark.parametrize(
    ("deploy", "reason"),
    [
        ({"mode": "gitops"}, "deploy.repository is missing"),
        ({"mode": "direct", "canary_percent": 5}, "canary_percent is for mode gitops"),
        ({"repository": "https://me:secret@git.example.test/x.git"}, "it has credentials"),
        ({"repository": "ext::sh -c true"}, "it is no address"),
        ({"endpoint": "topics.example.test"}, "endpoint is no address"),
        ({"branch": "--force"}, "deploy.branch"),
    ],
)
def test_settings_that_cannot_work_are_refused(deploy: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        project(**deploy)


def test_a_run_has_a_deploy_stage_when_it_has_somewhere_to_deploy_to() -> None:
    assert stages(project())[-1] == "register"
    assert stages(project(mode="direct"))[-1] == "deploy"
    assert stages(project(mode="direct"), "register")[-1] == "register"
    with pytest.raises(ConfigError, match=r"deploy\.mode is none"):
        stages(project(), "deploy")


def test_a_cluster_cannot_reach_a_repository_of_this_machine() -> None:
    refuse_local(project(mode="gitops", repository="https://git.example.test/x.git"))
    refuse_local(project(mode="gitops", repository="git@git.example.test:x.git"))
    with pytest.raises(ConfigError, match=r"deploy\.repository: '/home/me/x' is not on a server"):
        refuse_local(project(mode="gitops", repository="/home/me/x"))
    assert DeployConfig(repository="ssh://git@git.example.test/x.git").repository
