"""Restarts by SIGTERM under load: every request that a server took up was answered to its client.

The next server starts while clients ask the current one, takes over, and the one before it gets SIGTERM with requests
in flight. What a server took up is in its log, by prediction id; so a request that was accepted and whose answer never
reached its client cannot hide.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.serving.chaos.clients import Clients, Outcome
from tests.serving.conftest import ROOT, environment

NAME, PATH = ("--model_name", "support-topics"), "/v2/models/support-topics/infer"
SECONDS_TO_END = 90


@dataclass
class Process:
    """A server and where its log goes."""

    process: subprocess.Popen[str]
    log: Path
    http: str = ""

    def wait_until_ready(self) -> None:
        """Read its ready line."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait()}: {self.log.read_text('utf-8')[-2000:]}"
        self.http = json.loads(line)["http"].removeprefix("http://")

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS_TO_END)

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.communicate()

    def requests(self) -> list[dict[str, Any]]:
        """A line of its log for each request that it took up."""
        lines = [json.loads(line) for line in self.log.read_text("utf-8").splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == "request"]


def start(model: Path | str, folder: Path, number: int, *arguments: str) -> Process:
    """Start a server on free ports, with `folder/home` as its home; it ends with this process."""
    log = folder / f"server-{number}.log"
    # Waiting threads of OpenMP sleep: several servers share the cores with their clients.
    settings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    started = subprocess.Popen(
        [sys.executable, "-m", "serving", "--model", str(model), "--free-port", "--die-with-parent", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
        cwd=ROOT,
        env=environment(folder / "home") | settings,
    )
    return Process(started, log)


def restart(version: Path, folder: Path, number: int, seed: int) -> tuple[Outcome, list[Process]]:
    """So many restarts, at moments drawn by the seed."""
    generator = random.Random(seed)
    servers = [start(version, folder, 0, *NAME)]
    try:
        servers[0].wait_until_ready()
        current = [servers[0].http]
        with Clients(lambda: current[0], PATH) as clients:
            for index in range(1, number + 1):
                servers.append(start(version, folder, index, *NAME))
                servers[-1].wait_until_ready()
                current[0] = servers[-1].http
                # Some clients have moved by then, and some have not.
                time.sleep(generator.uniform(0, 0.02))
                assert servers[-2].end() == 0, servers[-2].log.read_text("utf-8")[-2000:]
                print(f"{index}/{number} restarts", file=sys.stderr, flush=True)
        assert servers[-1].end() == 0
        return clients.outcome, servers
    finally:
        for server in servers:
            server.kill()


def lost(outcome: Outcome, servers: Sequence[Process]) -> list[str]:
    """Requests that a server took up and whose client has no answer."""
    found = []
    for server in servers:
        for line in server.requests():
            if line["status"] not in (200, 429, 503) or (
                line["status"] == 200 and line["prediction_id"] not in outcome.answered
            ):
                found.append(f"{server.log.name}: {line}")
    return found
