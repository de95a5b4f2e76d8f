"""Writes a benchmark's table into docs/benchmarks.md, between its two marker comments."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fairlead.provenance import code, hardware_class

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def machine() -> str:
    """One line that describes where a table was measured."""
    commit = code().commit or "unknown"
    day = datetime.now(UTC).date().isoformat()
    return (
        f"{day}, {hardware_class()}, {os.cpu_count()} cores, Python {platform.python_version()}, commit {commit[:12]}"
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write(name: str, command: str, table: str) -> None:
    """Replace the part of the page between `<!-- name -->` and `<!-- /name -->`."""
    body = f"<!-- {name} -->\nMeasured with `{command}`: {machine()}.\n\n{table}\n<!-- /{name} -->"
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE}: there are no markers for {name!r}; add them where the table belongs")
    PAGE.write_text(pattern.sub(lambda _: body, page), encoding="utf-8")
