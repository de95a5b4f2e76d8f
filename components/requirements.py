"""Print the requirements that pyproject.toml states, one a line: the package's own and those of the named extras.

An image installs them before the code is there. `--without` leaves out packages that nothing in it imports.
"""

import argparse
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path


def requirements(
    extras: Sequence[str], without: Sequence[str] = (), pyproject: Path = Path("pyproject.toml")
) -> list[str]:
    """The package's requirements and those of `extras`, without the package itself and those of `without`.

    Raises:
        ValueError: a package in `without` is not required.
    """
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    named = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    if unknown := set(without) - {_name(line) for line in named}:
        raise ValueError(f"{pyproject}: {', '.join(sorted(unknown))} is not required; leave it out of --without")
    return [line for line in named if _name(line) not in {project["name"], *without}]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--without", nargs="*", default=[])
    arguments = parser.parse_args()
    print("\n".join(requirements(arguments.extras, arguments.without)))
