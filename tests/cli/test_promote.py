"""`fairlead promote` and `fairlead rollback` on a real repository with the committed manifests."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fairlead.registry import open_registry
from tests.cli.records import PROJECT, add_version

MANIFESTS = Path(__file__).parent.parent.parent / "manifests"
MODEL = "manifests/overlays/prod/models/support-topics"


def git(folder, *arguments):
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path, home, monkeypatch):
    """A repository whose production serves version 1, and a registry with two versions."""
    for variable in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{variable}_NAME", "A Promoter")
        monkeypatch.setenv(f"GIT_{variable}_EMAIL", "promoter@example.test")
    folder = tmp_path / "repository"
    shutil.copytree(MANIFESTS, folder / "manifests")
    model = folder / MODEL
    shutil.copytree(folder / "manifests/overlays/prod/models/library-docs", model)
    release = model / "release.yaml"
    release.write_text(release.read_text().replace("library_docs", PROJECT).replace("library-docs", "support-topics"))
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Begin")
    with open_registry() as registry:
        add_version(registry, 1, accuracy=0.9)
        add_version(registry, 2, accuracy=0.93)
    return folder


def changed_lines(folder, branch):
    diff = git(folder, "diff", "--unified=0", "main", branch)
    return [line for line in diff.splitlines() if line[0] in "+-" and not line.startswith(("+++", "---"))]


def test_a_promotion_is_one_line_on_a_branch_with_the_scores(fairlead, repository):
    head = git(repository, "rev-parse", "HEAD")
    said = fairlead("promote", PROJECT, "2", "--repository", str(repository)).out
    branch = "promote/prod/support_topics_v2"
    assert changed_lines(repository, branch) == [
        "-  storageUri: s3://fairlead/models/support_topics/v0001/",
        "+  storageUri: s3://fairlead/models/support_topics/v0002/",
    ]
    assert branch in said
    message = git(repository, "log", "-1", "--format=%B", branch)
    assert message.startswith("Promote support_topics_v2 in prod\n")
    assert any(line.split() == ["accuracy", "0.9000", "0.9300", "+0.0300"] for line in message.splitlines())
    assert (git(repository, "rev-parse", "HEAD"), git(repository, "status", "--porcelain")) == (head, "")
    assert git(repository, "worktree", "list").count("\n") == 1


def test_proposing_twice_makes_one_commit(fairlead, repository):
    for _ in range(2):
        assert fairlead("promote", PROJECT, "v2", "--repository", str(repository)).code == 0
    assert git(repository, "log", "--format=%s", "main..promote/prod/support_topics_v2").count("\n") == 1
    # A branch of that name with something else on it is not ours to change.
    git(repository, "branch", "--force", "promote/prod/support_topics_v2", "main")
    failed = fairlead("promote", PROJECT, "2", "--repository", str(repository))
    assert failed.code == 2
    assert "holds something else" in failed.err


def test_what_is_served_already_is_no_commit(fairlead, repository):
    assert "already" in fairlead("promote", PROJECT, "1", "--repository", str(repository)).out
    assert git(repository, "branch", "--format=%(refname:short)").split() == ["main"]


@pytest.mark.skipif(not (shutil.which("kubectl") or shutil.which("kustomize")), reason="kubectl is not here")
@pytest.mark.parametrize("percent", [10, 25])
def test_a_canary_gets_its_share_and_ends(fairlead, repository, percent):
    from manifests.validation.building import kustomize

    def serve(branch):
        git(repository, "merge", "--quiet", branch)
        (found,) = kustomize(repository / MODEL)
        return found["spec"]

    before = serve("main")
    answer = fairlead("promote", PROJECT, "2", "--canary", str(percent), "--repository", str(repository), "--json").json
    spec = serve(answer["branch"])
    assert spec["predictor"] == before["predictor"]
    (canary,) = spec["canary"]
    assert canary["trafficPercent"] == percent
    assert canary["predictor"]["model"]["storageUri"].endswith("/support_topics/v0002/")
    ended = fairlead("rollback", PROJECT, "--repository", str(repository), "--json").json
    assert (ended["before"], ended["after"]) == (1, 1)
    assert serve(ended["branch"]) == before


def test_a_rollback_is_what_was_served_before(fairlead, repository):
    failed = fairlead("rollback", PROJECT, "--repository", str(repository))
    assert failed.code == 2
    assert "has served support_topics_v1 only" in failed.err
    fairlead("promote", PROJECT, "2", "--repository", str(repository))
    before = (repository / MODEL / "release.yaml").read_text()
    git(repository, "merge", "--quiet", "promote/prod/support_topics_v2")
    answer = fairlead("rollback", PROJECT, "--repository", str(repository), "--json").json
    assert (answer["before"], answer["after"]) == (2, 1)
    git(repository, "merge", "--quiet", answer["branch"])
    assert (repository / MODEL / "release.yaml").read_text() == before


def test_a_branch_can_be_pushed(fairlead, repository, tmp_path):
    git(tmp_path, "init", "--quiet", "--bare", "remote")
    git(repository, "remote", "add", "origin", str(tmp_path / "remote"))
    assert fairlead("promote", PROJECT, "2", "--repository", str(repository), "--push", "origin").code == 0
    assert "promote/prod/support_topics_v2" in git(tmp_path / "remote", "branch", "--list")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("promote", PROJECT, "9"), "support_topics_v9"),
        (("promote", PROJECT, "2", "--to", "stage"), "overlays/stage/models/support-topics/release.yaml"),
        (("promote", PROJECT, "2", "--to", "../prod"), "is not an environment"),
        (("promote", PROJECT, "2", "--canary", "100"), "give 1 to 99 percent"),
        (("promote", PROJECT, "1", "--canary", "5"), "all of the traffic already"),
        (("promote", PROJECT, "2", "--push", "--force"), "is not a remote"),
        (("promote", PROJECT, "2", "--base", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_are_named_and_change_nothing(fairlead, repository, arguments, reason):
    failed = fairlead(*arguments, "--repository", str(repository))
    assert failed.code == 2
    assert reason in failed.err
    assert git(repository, "status", "--porcelain") == ""


def test_outside_a_repository_it_says_so(fairlead, home, tmp_path):
    failed = fairlead("promote", PROJECT, "1", "--repository", str(tmp_path))
    assert failed.code == 2
    assert "not in a git repository" in failed.err


def test_a_release_that_was_mangled_is_not_guessed_at(fairlead, repository):
    release = repository / MODEL / "release.yaml"
    release.write_text(release.read_text() + "  storageUri: s3://fairlead/models/support_topics/v0007/\n")
    git(repository, "commit", "--quiet", "--all", "--message", "Mangle")
    failed = fairlead("promote", PROJECT, "2", "--repository", str(repository))
    assert failed.code == 2
    assert "does not name a version of support_topics once" in failed.err
    assert yaml.safe_load(release.read_text())["data"]["storageUri"].endswith("/v0007/")
