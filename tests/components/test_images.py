"""The Dockerfiles, the names in components/images.py and the requirements agree."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from components.images import HOME, LIGHT_IMAGE, TORCH_IMAGE, USER_ID
from components.requirements import requirements

ROOT = Path(__file__).parent.parent.parent
PYPROJECT = ROOT / "pyproject.toml"
DOCKERFILE = (ROOT / "components" / "Dockerfile").read_text()
SERVING = (ROOT / "serving" / "Dockerfile").read_text()


def stages(dockerfile: str = DOCKERFILE) -> dict[str, tuple[str, str]]:
    """Parent and text of each stage that has a name."""
    parts = re.split(r"^FROM (\S+)(?: AS (\S+))?\n", dockerfile, flags=re.MULTILINE)[1:]
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
    assert "install.sh" not in text, "the image itself comes from the base and what is copied"


@pytest.mark.parametrize("target", ["light", "torch"])
def test_dependencies_are_a_layer_before_the_code_and_the_revision_is_last(target: str) -> None:
    assert not any("COPY src" in stages()[name][1] for name in lineage(f"{target}-dependencies"))
    layers = [f"COPY --from={target}-dependencies ", "COPY --from=code ", "ARG REVISION="]
    places = [stages()[target][1].index(layer) for layer in layers]
    assert places == sorted(places)


def test_what_the_dockerfiles_have_in_common_is_the_same() -> None:
    def instructions(dockerfile: str, name: str) -> list[str]:
        return [line for line in stages(dockerfile)[name][1].splitlines() if line and not line.startswith("#")]

    for name in ("builder", "code"):
        assert instructions(SERVING, name) == instructions(DOCKERFILE, name)


def test_the_light_image_has_no_torch() -> None:
    assert "torch-dependencies" not in lineage("light-dependencies")
    assert not any(
        re.match(r"torch\b|transformers\b", line) for line in requirements(["postgres"], pyproject=PYPROJECT)
    )


def test_requirements_are_those_of_pyproject() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    found = requirements(["torch"], pyproject=PYPROJECT)
    assert found == [*project["dependencies"], *project["optional-dependencies"]["torch"]]
    serving = requirements(["serving"], pyproject=PYPROJECT)
    assert any(line.startswith("kserve>") for line in serving)
    assert not any(line.startswith("fairlead") for line in serving)


def test_what_an_image_does_without_is_required_by_somebody() -> None:
    without = requirements(["serving"], ["kfp", "kserve"], PYPROJECT)
    assert not any(re.match(r"kfp\b|kserve\b", line) for line in without)
    with pytest.raises(ValueError, match="kserv is not required"):
        requirements(["serving"], ["kserv"], PYPROJECT)


def test_every_installation_is_as_constraints_pin_it() -> None:
    """The package itself comes without what it requires."""
    script = (ROOT / "components" / "install.sh").read_text()
    lines = [line for line in script.splitlines() if line.startswith("    install ")]
    assert len(lines) == 3
    assert all("--constraint constraints.txt" in line or "--no-deps --prefix /code" in line for line in lines)


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not here")
def test_the_build_script_is_bash_and_builds_these_names() -> None:
    script = ROOT / "components" / "build-images.sh"
    subprocess.run(["bash", "-n", script], check=True)
    for image in (LIGHT_IMAGE, TORCH_IMAGE):
        assert image.split(":")[0] in script.read_text()
