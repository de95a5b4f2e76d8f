"""Runs inside a container: what it is and what it can reach, as JSON. With the standard library alone."""

import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

# What builds programs, installs packages or fetches files.
TOOLS = ("cc", "gcc", "g++", "c++", "clang", "ld", "as", "make", "pip", "pip3", "curl", "wget", "ssh")


def main(*places: str) -> None:
    """Look at this container; `places` are folders to try to write to."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {
        "user": [os.getuid(), os.getgid(), *os.getgroups()],
        "capabilities": sum(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
        "new_privileges": status["NoNewPrivs"].strip() == "0",
        "writable": [place for place in places if _is_writable(place)],
        "interfaces": [name for _, name in socket.if_nameindex()],
        "routes": Path("/proc/net/route").read_text().splitlines()[1:],
        "processes": sum(path.name.isdigit() for path in Path("/proc").iterdir()),
        "tools": [tool for tool in TOOLS if shutil.which(tool)],
    }
    print(json.dumps(found))


def _is_writable(path: str) -> bool:
    try:
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
