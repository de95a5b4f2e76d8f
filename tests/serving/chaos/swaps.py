"""Swaps of the version, and kills of workers, of one server under load."""

import os
import random
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import httpx
import psutil

from tests.inference.conftest import register_version
from tests.serving.chaos.clients import Clients, Outcome
from tests.serving.chaos.restarts import NAME, PATH, Process, start

MODEL = "support_topics"


def swap(folder: Path, number: int, seed: int) -> tuple[Outcome, Process]:
    """So many swaps between two registered versions, by the model repository extension."""
    generator = random.Random(seed)
    with mock.patch.dict(os.environ, {"FAIRLEAD_HOME": str(folder / "home")}):
        for made in (0, 1):
            register_version(folder, made)
    server = start(f"{MODEL}:1", folder, 0, "--model-control", "explicit")
    try:
        server.wait_until_ready()
        with Clients(lambda: server.http, f"/v2/models/{MODEL}/infer") as clients:
            for index in range(1, number + 1):
                wanted = {"parameters": {"ref": f"{MODEL}:{index % 2 + 1}"}}
                address = f"http://{server.http}/v2/repository/models/{MODEL}/load"
                response = httpx.post(address, json=wanted, timeout=240, trust_env=False)
                assert response.status_code == 200, response.text
                time.sleep(generator.uniform(0, 0.05))
                print(f"{index}/{number} swaps", file=sys.stderr, flush=True)
        assert server.end() == 0
        return clients.outcome, server
    finally:
        server.kill()


def kill_workers(version: Path, folder: Path, number: int, seed: int) -> Outcome:
    """So many SIGKILLs of one of two workers; each time the other goes on and the killed one is replaced."""
    generator = random.Random(seed)
    server = start(version, folder, 0, "--workers", "2", *NAME)
    try:
        server.wait_until_ready()
        with Clients(lambda: server.http, PATH) as clients:
            for index in range(1, number + 1):
                before = _workers(server)
                os.kill(generator.choice(before), signal.SIGKILL)
                answered = len(clients.outcome.answered)
                _until(lambda answered=answered: len(clients.outcome.answered) > answered + 8)
                _until(lambda before=before: len(_workers(server)) == 2 and set(_workers(server)) != set(before))
                print(f"{index}/{number} kills", file=sys.stderr, flush=True)
        assert server.end() == 0
        return clients.outcome
    finally:
        server.kill()


def _workers(server: Process) -> list[int]:
    children = psutil.Process(server.process.pid).children()
    return sorted(child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE)


def _until(condition: object, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)
