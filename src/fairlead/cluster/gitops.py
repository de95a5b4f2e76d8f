"""A change of the repository that a cluster follows, committed on a branch of its own.

The user's checkout is not touched: the change is made in a work tree beside it, which is removed again.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fairlead.errors import ClusterError, ConfigError, NotFound
from fairlead.names import GIT_PASSWORD_ENV, GIT_USERNAME_ENV
from fairlead.storage.redaction import redact_text

REMOTE = "origin"
# A repository of manifests is small; what takes longer hangs.
SECONDS_FOR_GIT = 600.0
# A clone's HEAD, which fetching must not touch.
NO_BRANCH = "fairlead-no-branch"
# What git calls the reason, among hints and what the server says.
REASONS = ("fatal:", "error:", "remote: error:", "!")
# Reads the credentials when git asks for them, so that they are on no command line and in no file.
HELPER = f"""!f() {{ printf 'username=%s\\npassword=%s\\n' "${GIT_USERNAME_ENV}" "${GIT_PASSWORD_ENV}"; }}; f"""


class Repository:
    """A git repository on this machine."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None, address: str = "") -> None:
        """`folder` is anywhere inside it; `environment` is git's besides ours, `address` what messages call it.

        Raises ConfigError when it is in none.
        """
        self._folder, self._environment = folder, environment or {}
        top = self._git("rev-parse", "--show-toplevel", check=False)
        if top is None:
            raise ConfigError(f"{folder}: it is not in a git repository; name one with --repository")
        self._folder, self._address = Path(top), address or top

    @property
    def folder(self) -> Path:
        """Its top."""
        return self._folder

    def read(self, revision: str, path: str) -> str:
        """The text of a file at a revision. Raises NotFound, naming both."""
        text = self._git("show", f"{revision}:{path}", check=False, strip=False)
        if text is None:
            raise NotFound(
                f"{path}: there is no such file at {revision} of {self._address}; "
                "check --to and --base (deploy.environment and deploy.branch)"
            )
        return text

    def history(self, revision: str, path: str) -> Iterator[str]:
        """The commits up to `revision` that changed a file, the newest first."""
        yield from (self._git("log", "--format=%H", revision, "--", path) or "").splitlines()

    def head(self, name: str) -> str | None:
        """The newest commit of a branch; None when there is no such branch."""
        return self._git("rev-parse", "--verify", "--quiet", f"refs/heads/{name}", check=False)

    def is_behind(self, commit: str, base: str) -> bool:
        """Whether `base` has all of a branch's newest commit and more: it was merged, and work went on."""
        other = self._git("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}", check=False)
        return commit != other and self._git("merge-base", "--is-ancestor", commit, base, check=False) is not None

    def forget_branch(self, name: str) -> None:
        """Delete a branch; its commits stay where they were merged to."""
        self._git("branch", "--quiet", "-D", name)

    def commit(self, branch: str, base: str, files: Mapping[str, str], message: str) -> str:
        """Commit `files` (text by path) on the new branch `branch` from `base`; returns the commit.

        Raises ClusterError with git's last line when it does not take the commit.
        """
        with tempfile.TemporaryDirectory(prefix="fairlead-") as temporary:
            tree = Path(temporary) / "tree"
            self._git("worktree", "add", "--quiet", "--detach", str(tree), base)
            try:
                for path, text in files.items():
                    (tree / path).write_text(text, "utf-8")
                beside = Repository(tree, self._environment)
                beside._git("add", "--", *files)
                beside._git("commit", "--quiet", "--file", "-", text=message)
                commit = str(beside._git("rev-parse", "HEAD"))
            finally:
                self._git("worktree", "remove", "--force", str(tree), check=False)
        self._git("branch", branch, commit)
        return commit

    def push(self, remote: str, branch: str) -> None:
        """Push a branch. Raises ClusterError with git's last line."""
        self._git("push", "--quiet", remote, f"refs/heads/{branch}:refs/heads/{branch}")

    def diff(self, base: str, commit: str) -> str:
        """What a commit changes, as git shows it."""
        return self._git("diff", "--unified=0", base, commit, strip=False) or ""

    def _git(self, *arguments: str, check: bool = True, strip: bool = True, text: str | None = None) -> str | None:
        return _git(self._folder, arguments, self._environment, check, strip, text)


@contextmanager
def cloned(address: str) -> Iterator[Repository]:
    """Within the block, a copy of a remote repository with all of its branches; nothing of it is left afterwards.

    Credentials for https:// come from FAIRLEAD_GIT_USERNAME and FAIRLEAD_GIT_PASSWORD, and are given to that host only.
    Raises ClusterError with git's reason when it cannot be read.
    """
    environment = _settings(address)
    with tempfile.TemporaryDirectory(prefix="fairlead-") as temporary:
        folder = Path(temporary) / "clone"
        _git(Path(temporary), ("init", "--quiet", f"--initial-branch={NO_BRANCH}", str(folder)), environment)
        _git(folder, ("remote", "add", REMOTE, address), environment)
        _git(folder, ("fetch", "--quiet", "--no-tags", REMOTE, "+refs/heads/*:refs/heads/*"), environment)
        yield Repository(folder, environment | _identity(folder), address)


def _settings(address: str) -> dict[str, str]:
    """Git's settings for a remote repository, as environment variables."""
    # A transfer that stands still for a minute is given up.
    settings = {"http.lowSpeedLimit": "1", "http.lowSpeedTime": "60"}
    parts = urlsplit(address)
    if os.environ.get(GIT_PASSWORD_ENV) and parts.scheme in ("http", "https"):
        settings[f"credential.{parts.scheme}://{parts.netloc}.helper"] = HELPER
    first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    numbered = list(enumerate(settings.items(), start=first))
    found = {f"GIT_CONFIG_KEY_{n}": key for n, (key, _) in numbered}
    found |= {f"GIT_CONFIG_VALUE_{n}": value for n, (_, value) in numbered}
    return found | {"GIT_CONFIG_COUNT": str(first + len(settings))}


def _identity(folder: Path) -> dict[str, str]:
    """Who commits where nobody is configured: a pod."""
    if os.environ.get("GIT_AUTHOR_EMAIL") or _git(folder, ("config", "--get", "user.email"), check=False):
        return {}
    roles = ("AUTHOR", "COMMITTER")
    return {f"GIT_{role}_NAME": "fairlead" for role in roles} | {
        f"GIT_{role}_EMAIL": "fairlead@localhost" for role in roles
    }


def _git(
    folder: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    strip: bool = True,
    text: str | None = None,
) -> str | None:
    """What git prints; None when it fails and `check` is not set. Raises ClusterError with its reason."""
    ssh = {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=30"}
    # A prompt for a password would wait for ever in a pipeline.
    every = {**ssh, **os.environ, "GIT_TERMINAL_PROMPT": "0", **(environment or {})}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, env=every, check=False, timeout=SECONDS_FOR_GIT
        )
    except FileNotFoundError as error:
        raise ConfigError("git: it is not on this machine; install it") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"git {arguments[0]}: it took longer than {SECONDS_FOR_GIT:.0f} s; run again") from error
    if done.returncode == 0:
        return done.stdout.strip() if strip else done.stdout
    if check:
        reason = _reason(done.stderr) or f"exit code {done.returncode}"
        raise ClusterError(f"git {arguments[0]}: {reason}; mend it and run again")
    return None


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(REASONS)]
    return redact_text((named or lines[-1:] or [""])[0].removeprefix("fatal: ").removeprefix("error: "))
