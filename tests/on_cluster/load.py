"""Ask a model server without pause and count what is lost: `python load.py --url http://model-predictor/v1/...:predict`

It needs nothing but Python, since it runs in a pod, against the Service. It says `started` with the first answer, and
in its last line the counts. Every other client opens a connection for each request, the rest keep theirs.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

BODY = json.dumps({"instances": ["my card was charged twice"]}).encode()
HEADERS = {"Content-Type": "application/json"}


class Counts:
    """What all clients saw."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.versions: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.longest_gap = 0.0
        self.last_answer = 0.0

    def answered(self, version: str) -> None:
        with self.lock:
            now = time.monotonic()
            if not self.versions:
                print("started", flush=True)
            else:
                self.longest_gap = max(self.longest_gap, now - self.last_answer)
            self.last_answer = now
            self.versions[version] += 1

    def failed(self, reason: str) -> None:
        with self.lock:
            # Before the first answer nothing was promised: the name may not be known yet.
            if self.versions:
                self.failures[reason] += 1

    def summary(self) -> dict[str, object]:
        lost = sum(self.failures.values())
        return {
            "requests": sum(self.versions.values()) + lost,
            "failed": lost,
            "failures": dict(self.failures.most_common(5)),
            "versions": dict(self.versions),
            "longest_gap_seconds": round(self.longest_gap, 3),
        }


def ask(url: str, counts: Counts, ended: threading.Event, keeps: bool, pause: float) -> None:
    """One client, until `ended`."""
    address = urlsplit(url)
    connection: HTTPConnection | None = None
    while not ended.is_set():
        connection = connection or HTTPConnection(address.hostname or "", address.port or 80, timeout=30)
        try:
            connection.request("POST", address.path, BODY, HEADERS)
            response = connection.getresponse()
            content = response.read()
            if response.status == 200:
                counts.answered(json.loads(content)["model_version"])
            else:
                counts.failed(f"status {response.status}")
            stays = keeps and not response.will_close
        except (OSError, HTTPException, ValueError, KeyError) as error:
            counts.failed(f"{type(error).__name__}: {error}")
            stays = False
        if not stays:
            connection.close()
            connection = None
        ended.wait(pause)


def main(arguments: list[str]) -> int:
    """Run all clients; exit 0 when something was answered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30, help="after the first answer")
    parser.add_argument("--until", default="", help="end when this version has answered for --then seconds")
    parser.add_argument("--then", type=float, default=10)
    parser.add_argument("--pause", type=float, default=0.02)
    given = parser.parse_args(arguments)
    counts, ended = Counts(), threading.Event()
    clients = [
        threading.Thread(target=ask, args=(given.url, counts, ended, index % 2 == 1, given.pause))
        for index in range(given.clients)
    ]
    for client in clients:
        client.start()
    began = time.monotonic()
    # As long again for the first answer.
    while not counts.versions and time.monotonic() - began < given.seconds:
        time.sleep(0.05)
    began = time.monotonic()
    deadline = began + given.seconds
    while counts.versions and time.monotonic() < deadline:
        time.sleep(0.05)
        if given.until and given.until in counts.versions:
            given.until, deadline = "", time.monotonic() + given.then
    ended.set()
    for client in clients:
        client.join()
    print(json.dumps(counts.summary()), flush=True)
    return 0 if counts.versions else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
