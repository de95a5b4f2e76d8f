"""Print the requirements that pyproject.toml states, one a line: the package's own and those of the named extras.

An image installs them before the code is there.
"""

import sys
import tomllib
from pathlib import Path


def requirements(extras: list[str], pyproject: Path = Path("pyproject.toml")) -> list[str]:
    """The package's requirements and those of `extras`, without the package itself."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    named = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [line for line in named if not line.startswith(f"{project['name']}[")]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
