"""What a program sees and reaches that stands in a step's place in its container."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.containers.isolation import Container, run

PROBE = Path(__file__).parent / "probe.py"
# Where an attacker, or a mistake, would write.
PLACES = ("/", "/opt/fairlead", "/usr/local/bin", "/etc", "/root", "/home", "/var/tmp", "/tmp", "/dev/shm")


def looked_around(container: Container, folder: Path) -> dict[str, Any]:
    """What the probe sees in that container; what holds for each is asserted."""
    readable = {**container.readable, "/probe.py": PROBE}
    places = [*PLACES, *container.writable, *container.readable]
    probe = replace(container, readable=readable, command=("python3", "/probe.py", *places))
    done = run(probe, folder)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert found["capabilities"] == 0 and found["new_privileges"] is False
    assert found["tools"] == []
    assert found["processes"] == 1
    return dict(found)
