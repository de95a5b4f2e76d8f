import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tiny import make_version

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Server:
    """A running model server and its ready line."""

    process: subprocess.Popen[str]
    http: str
    grpc: str
    model: str
    version: str
    digest: str
    folder: Path

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        # The environment's proxies are not for loopback.
        return httpx.post(self.http + path, timeout=60, trust_env=False, **arguments)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.http + path, timeout=60, trust_env=False)


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    return kept | {"FAIRLEAD_HOME": str(home), "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "serving", "--model", str(folder), "--free-port", *arguments]
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=environment(folder.parent / "home")
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            errors.seek(0)
            pytest.fail(f"the server ended with {process.wait()}: {errors.read()}")
        ready = json.loads(line)
        named = {name: ready[name] for name in ("http", "grpc", "model", "version", "digest")}
        yield Server(process=process, folder=folder, **named)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        errors.close()


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_version(tmp_path_factory.mktemp("served") / "version", number=3)


@pytest.fixture(scope="session")
def server(version: Path) -> Iterator[Server]:
    with running(version, "--model_name", "support-topics") as server:
        yield server
