"""docs/architecture.md says what the import contracts say, and the light rooms stay light."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def rooms_of(line: str) -> set[str]:
    return set(re.findall(r"[a-z]+", line))


def test_the_page_draws_the_layers_of_the_contract() -> None:
    contract = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    block = PAGE.split("```")[3].strip().splitlines()
    # Comments stand two spaces or more to the right of the last room of a line.
    drawn = [rooms_of(re.split(r"\s{3,}", line)[0]) for line in block]
    assert drawn == [rooms_of(layer) for layer in contract["layers"]]


def test_every_decision_is_numbered_and_has_its_sections() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert pages
    for number, page in enumerate(pages, start=1):
        text = page.read_text("utf-8")
        assert page.name.startswith(f"{number:03d}-"), page.name
        assert text.startswith(f"# {number:03d}: ")
        assert "**Decision.**" in text
        assert "**Why.**" in text


@pytest.mark.parametrize(
    "module",
    [
        "fairlead.cli.main",
        "fairlead.project",
        "fairlead.storage",
        "fairlead.registry",
        "fairlead.registry.registration",
        "fairlead.evaluation.gates",
        "fairlead.data.ingest",
    ],
)
def test_a_light_room_imports_neither_torch_nor_transformers(module: str) -> None:
    """Nor pandas: whoever imports it for another's sake makes every stage half a second longer."""
    heavy = {"torch", "transformers", "kserve", "pandas"}
    program = f"import sys, {module}; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
