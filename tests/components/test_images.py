"""The Dockerfile, the names in components/images.py and the requirements agree."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from components.images import HOME, LIGHT_IMAGE, TORCH_IMAGE, USER_ID
from components.requirements import requirements

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "components" / "Dockerfile").read_text()


def stages() -> dict[str, tuple[str, str]]:
    """Parent and text of each stage by name."""
    parts = re.split(r"^FROM (\S+) AS (\S+)\n", DOCKERFILE, flags=re.MULTILINE)[1:]
    return {name: (parent, text) for parent, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


def lineage(name: str) -> list[str]:
    """The stage's ancestors, itself first."""
    return [name, *lineage(stages()[name][0])] if name in stages() else []


@pytest.mark.parametrize("target", ["light", "torch"])
def test_an_image_has_a_user_a_home_and_the_revision(target: str) -> None:
    text = "".join(stages()[name][1] for name in lineage(target))
    assert f"ARG USER_ID={USER_ID}\n" in text
    assert "USER ${USER_ID}:${USER_ID}\n" in text
    assert f"FAIRLEAD_HOME={HOME} " in text
    assert 'org.opencontainers.image.revision="${REVISION}"' in text
    assert "FAIRLEAD_REVISION=${REVISION}" in text
    assert "pip install" not in text, "the image itself comes from the base and one copied folder"


@pytest.mark.parametrize("target", ["light", "torch"])
def test_dependencies_are_installed_before_the_code_is_copied(target: str) -> None:
    above = lineage(f"{target}-installed")[1:]
    assert not any("COPY src" in stages()[name][1] for name in above)
    assert all("--constraint constraints.txt" in line for line in DOCKERFILE.splitlines() if "--requirement" in line)


def test_the_light_image_has_no_torch() -> None:
    assert "torch-dependencies" not in lineage("light-installed")
    assert not any(
        re.match(r"torch\b|transformers\b", line) for line in requirements(["postgres"], ROOT / "pyproject.toml")
    )


def test_requirements_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = requirements(["torch"], ROOT / "pyproject.toml")
    assert found == [*project["dependencies"], *project["optional-dependencies"]["torch"]]
    serving = requirements(["serving"], ROOT / "pyproject.toml")
    assert any(line.startswith("kserve>") for line in serving)
    assert not any(line.startswith("fairlead") for line in serving)


def test_everything_that_is_copied_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    for path in " ".join(copied).split():
        assert path.split("/")[0] in sent, path


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not here")
def test_the_build_script_is_bash_and_builds_these_names() -> None:
    script = ROOT / "components" / "build-images.sh"
    subprocess.run(["bash", "-n", script], check=True)
    for image in (LIGHT_IMAGE, TORCH_IMAGE):
        assert image.split(":")[0] in script.read_text()
