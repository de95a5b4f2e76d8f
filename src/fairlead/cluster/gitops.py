"""A change of the repository that a cluster follows, committed on a branch of its own.

The user's checkout is not touched: the change is made in a work tree beside it, which is removed again.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from fairlead.errors import ClusterError, ConfigError, NotFound


class Repository:
    """A git repository on this machine."""

    def __init__(self, folder: Path) -> None:
        """`folder` is anywhere inside it. Raises ConfigError when it is in none."""
        self._folder = folder
        top = self._git("rev-parse", "--show-toplevel", check=False)
        if top is None:
            raise ConfigError(f"{folder}: it is not in a git repository; name one with --repository")
        self._folder = Path(top)

    @property
    def folder(self) -> Path:
        """Its top."""
        return self._folder

    def read(self, revision: str, path: str) -> str:
        """The text of a file at a revision. Raises NotFound, naming both."""
        text = self._git("show", f"{revision}:{path}", check=False, strip=False)
        if text is None:
            raise NotFound(f"{path}: there is no such file at {revision} of {self._folder}; check --to and --base")
        return text

    def history(self, revision: str, path: str) -> Iterator[str]:
        """The commits up to `revision` that changed a file, the newest first."""
        yield from (self._git("log", "--format=%H", revision, "--", path) or "").splitlines()

    def has_branch(self, name: str) -> bool:
        """Whether there is a branch of this name."""
        return self._git("rev-parse", "--verify", "--quiet", f"refs/heads/{name}", check=False) is not None

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
                beside = Repository(tree)
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
        # A prompt for a password would wait for ever in a pipeline.
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        command = ["git", "-C", str(self._folder), *arguments]
        try:
            done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=False)
        except FileNotFoundError as error:
            raise ConfigError("git: it is not on this machine; install it") from error
        if done.returncode == 0:
            return done.stdout.strip() if strip else done.stdout
        if check:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ClusterError(f"git {arguments[0]}: {lines[-1].removeprefix('fatal: ')}; mend it and run again")
        return None
