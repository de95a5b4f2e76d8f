"""Which code runs and in which environment, as recorded on every run and model version."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import fairlead
from fairlead.formats.digests import PREFIX, of_bytes
from fairlead.formats.model import Code, Environment

REVISION_ENV = "FAIRLEAD_REVISION"
IMAGE_DIGEST_ENV = "FAIRLEAD_IMAGE_DIGEST"


def environment(hardware: str, world_size: int, num_threads: int) -> Environment:
    """The environment of this process; `hardware` as `hardware_class` or a device's own name gives it."""
    return Environment(
        python=platform.python_version(),
        torch=_version_of("torch"),
        packages_digest=packages_digest(),
        image_digest=os.environ.get(IMAGE_DIGEST_ENV) or None,
        hardware=hardware,
        world_size=world_size,
        num_threads=num_threads,
    )


def hardware_class() -> str:
    """The processor's model: `cpu: AMD EPYC`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"cpu: {model}"


@functools.cache
def packages_digest() -> str:
    """SHA-256 over the sorted `name==version` lines of every installed distribution."""
    lines = {f"{d.metadata['Name'].lower()}=={d.version}" for d in importlib.metadata.distributions()}
    return of_bytes("\n".join(sorted(lines)).encode())


@functools.cache
def code() -> Code:
    """The package's version and source digest, and the git commit where there is one."""
    folder = Path(fairlead.__file__).parent
    commit, diff_digest = _git(folder)
    return Code(
        package=f"fairlead {fairlead.__version__}",
        source_digest=_source_digest(folder),
        commit=commit,
        diff_digest=diff_digest,
    )


def _source_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n{of_bytes(path.read_bytes())}\n".encode())
    return PREFIX + digest.hexdigest()


def _git(folder: Path) -> tuple[str | None, str | None]:
    revision = os.environ.get(REVISION_ENV)
    if revision:
        return revision, None
    try:
        # Asking for a tracked file tells this checkout from a repository that merely holds the virtual environment.
        _ask_git(folder, "ls-files", "--error-unmatch", "__init__.py")
        commit = _ask_git(folder, "rev-parse", "HEAD").decode().strip()
        diff = _ask_git(folder, "diff", "HEAD", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, of_bytes(diff) if diff else None


def _ask_git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
