"""Provenance in a real checkout: what decides results is in the digests, wherever it lies."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.formats.digests import of_bytes
from fairlead.formats.model import Code
from fairlead.provenance import packages_digest

ROOT = Path(__file__).parent.parent
PACKAGES = ("components", "pipelines", "serving")
PROGRAM = """
import json, sys
from fairlead.provenance import code
print(json.dumps([code().to_dict(), sorted({"components", "pipelines", "serving"} & sys.modules.keys())]))
"""


def code_of(*paths: Path) -> Code:
    """What a process with `paths` on its path says of its code; it must not import the packages to say so."""
    environment = {"PYTHONPATH": ":".join(map(str, paths)), "PATH": "/usr/bin:/bin", "HOME": str(paths[0])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    values, imported = json.loads(done.stdout)
    assert imported == []
    return Code.parse(values)


def git(folder: Path, *arguments: str) -> None:
    names = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "fairlead", folder / "src" / "fairlead", ignore=ignore)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    (folder / ".gitignore").write_text("__pycache__/\n*.log\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def test_every_change_that_decides_results_is_seen(checkout: Path) -> None:
    def code() -> Code:
        return code_of(checkout / "src", checkout)

    clean = code()
    assert clean.commit and clean.diff_digest is None
    (checkout / "notes.md").write_text("neither code nor ignored")
    (checkout / "serving" / "a.log").write_text("ignored")
    assert code() == clean
    seen = [clean]
    for name in (*PACKAGES, "src/fairlead"):
        (checkout / name / "added.py").write_text(f"# {name}")
        seen.append(code())
        (checkout / name / "added.py").write_text(f"# {name} again")
        seen.append(code())
    with (checkout / "components" / "train.py").open("a") as file:
        file.write("# changed")
    seen.append(code())
    assert len({one.diff_digest for one in seen}) == len({one.source_digest for one in seen}) == len(seen)
    assert {one.commit for one in seen} == {clean.commit}


def test_a_wheel_has_the_source_digest_of_its_checkout_and_no_commit(checkout: Path, tmp_path: Path) -> None:
    site = checkout / "environment" / "site-packages"
    shutil.copytree(checkout / "src" / "fairlead", site / "fairlead", ignore=shutil.ignore_patterns("__pycache__"))
    for name in PACKAGES:
        shutil.copytree(checkout / name, site / name)
    installed = code_of(site)
    assert installed.commit is None and installed.diff_digest is None
    assert installed.source_digest == code_of(checkout / "src", checkout).source_digest


def test_a_package_of_the_same_name_elsewhere_is_not_ours(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "serving").mkdir(parents=True)
    (tmp_path / "other" / "serving" / "__init__.py").write_text("")
    alone = code_of(checkout / "src", checkout)
    assert code_of(tmp_path / "other", checkout / "src", checkout) == alone


def test_the_packages_are_those_that_are_installed_by_name_and_version() -> None:
    lines = sorted({f"{d.metadata['Name'].lower()}=={d.version}" for d in importlib.metadata.distributions()})
    assert packages_digest() == of_bytes("\n".join(lines).encode())
