"""Which code runs and in which environment, as recorded on every run and model version."""

import email
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import fairlead
from fairlead.formats.digests import PREFIX, of_bytes, of_file
from fairlead.formats.model import Code, Environment

REVISION_ENV = "FAIRLEAD_REVISION"
IMAGE_DIGEST_ENV = "FAIRLEAD_IMAGE_DIGEST"
# In place of the version of a distribution that is not there.
NOT_INSTALLED = "not installed"
# Packages that lie beside this one and decide results as well.
BESIDE = ("components", "pipelines", "serving")
# Where a checkout keeps what decides results.
DECIDING = ("src", *BESIDE)


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
    lines = {_named(distribution) for distribution in importlib.metadata.distributions()}
    return of_bytes("\n".join(sorted(lines)).encode())


def _named(distribution: importlib.metadata.Distribution) -> str:
    """`name==version`. Only the head is parsed: the descriptions of 230 packages take a quarter of a second."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = email.message_from_string(text.partition("\n\n")[0])
    return f"{head['Name'].lower()}=={head['Version']}"


@functools.cache
def code() -> Code:
    """The package's version and source digest, and the git commit where there is one."""
    folders = _packages()
    commit, diff_digest = _git(folders["fairlead"])
    return Code(
        package=f"fairlead {fairlead.__version__}",
        source_digest=_source_digest(folders),
        commit=commit,
        diff_digest=diff_digest,
    )


def _packages() -> dict[str, Path]:
    """The folders of the packages that this distribution brings, by name.

    They lie beside the package (a wheel) or beside its `src` (a checkout). The import path is not asked:
    it begins with the folder that a command is run in, and one source must have one digest everywhere.
    """
    package = Path(fairlead.__file__).parent
    beside = package.parent.parent if package.parent.name == "src" else package.parent
    found = {name: beside / name for name in BESIDE if (beside / name / "__init__.py").is_file()}
    return {"fairlead": package, **found}


def _source_digest(folders: dict[str, Path]) -> str:
    """Names each file by its package, so that a checkout and a wheel of it have one digest."""
    digest = hashlib.sha256()
    for name, folder in sorted(folders.items()):
        for path in sorted(folder.rglob("*.py")):
            relative = f"{name}/{path.relative_to(folder).as_posix()}"
            digest.update(f"{relative}\n{of_bytes(path.read_bytes())}\n".encode())
    return PREFIX + digest.hexdigest()


def _git(folder: Path) -> tuple[str | None, str | None]:
    revision = os.environ.get(REVISION_ENV)
    if revision:
        return revision, None
    try:
        # Asking for a tracked file tells this checkout from a repository that merely holds the virtual environment.
        _ask_git(folder, "ls-files", "--error-unmatch", "__init__.py")
        top = Path(os.fsdecode(_ask_git(folder, "rev-parse", "--show-toplevel")).rstrip("\n"))
        commit = _ask_git(top, "rev-parse", "HEAD").decode().strip()
        return commit, _changes_digest(top)
    except (OSError, subprocess.SubprocessError):
        return None, None


def _changes_digest(top: Path) -> str | None:
    """Digest of what the commit lacks: the diff of tracked files, and untracked ones that are not ignored."""
    diff = _ask_git(top, "diff", "HEAD", "--", *DECIDING)
    new = _ask_git(top, "ls-files", "-z", "-o", "--exclude-standard", "--", *DECIDING)
    if not diff and not new:
        return None
    digest = hashlib.sha256(diff)
    for name in sorted(filter(None, new.split(b"\0"))):
        digest.update(name + b"\n" + of_file(top / os.fsdecode(name)).encode() + b"\n")
    return PREFIX + digest.hexdigest()


def _ask_git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED
