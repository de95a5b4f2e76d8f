"""Every `fairlead` command that a document shows is one that the command line takes."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer.main

from fairlead.cli.main import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if match := re.match(r"(?:\$ )?fairlead (.*)", line):
                    found.append((page.name, match[1]))
    return found


def test_the_documents_show_commands() -> None:
    assert {page for page, _ in commands()} >= {"README.md", "data.md", "training.md", "serving.md"}


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_documented_command_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    command: click.Command = typer.main.get_command(app)
    while isinstance(command, click.Group):
        assert words[0] in command.commands, f"{page}: fairlead {line}"
        command = command.commands[words.pop(0)]
    # Parses the line as the program would, and runs nothing.
    context = command.make_context(command.name, words, resilient_parsing=False)
    assert context.command is command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_has_an_unfilled_place(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not re.search(r"^[A-Z]{3,}$", text, re.MULTILINE)
    assert not re.search(r"<!-- (\w+) -->\s*<!-- /\1 -->", text)
