"""Peers that pin other versions than Fairlead does live in virtual environments of their own, made once and kept."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers"


def installed(name: str, cache: Path) -> Path | None:
    """Python of the peer's environment when it was made before."""
    python = _python(name, cache)
    return python if (python.parent.parent / "complete").exists() else None


def install(name: str, cache: Path) -> Path:
    """Make the peer's environment from `benchmarks/peers/<name>.txt`; returns its Python.

    Raises SystemExit with pip's reason when the package index of today does not have all of it.
    """
    python = _python(name, cache)
    print(f"installing {name} into {python.parent.parent}; this is done once", file=sys.stderr, flush=True)
    venv.create(python.parent.parent, with_pip=True)
    # The list is whole, and resolving it anew takes pip longer than the benchmark.
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS / f"{name}.txt")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: it cannot be installed: {done.stdout[-1000:]}")
    _patch(name, python)
    (python.parent.parent / "complete").touch()
    return python


def _patch(name: str, python: Path) -> None:
    """Give it what stands between its pinned versions, where there is such a file."""
    patch = REQUIREMENTS / f"{name}_names.py"
    if patch.exists():
        (packages,) = (python.parent.parent / "lib").glob("python3*/site-packages")
        shutil.copyfile(patch, packages / "sitecustomize.py")


def _python(name: str, cache: Path) -> Path:
    return cache / "peers" / name / "bin" / "python"
