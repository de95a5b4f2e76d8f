"""How long health waits while large JSON bodies come: milliseconds of `GET /v2/health/live`, by kind of body.

    python -m benchmarks.large_bodies [--seconds 5]

A server of a tiny model in a process of its own; one client sends one body after the other, 30 MB or what is stated,
and another asks for health every 5 ms. The first row is without large bodies.
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import orjson

from tests.serving.conftest import running
from tests.tiny import make_version

PATH = "/v1/models/support_topics:predict"
TEXT = "my card was charged twice and where is the parcel "
BODIES: dict[str, bytes] = {
    "none": b"",
    "1,000 texts of 30 KB": orjson.dumps({"instances": [TEXT * 600] * 1000}),
    "1,024 x 512 token ids (2 MB)": orjson.dumps({"instances": [[5] * 512] * 1024}),
    "10 million empty lists": b'{"instances":[' + b"[]," * 10_000_000 + b"1]}",
    "10 million empty texts": b'{"instances":[' + b'"",' * 10_000_000 + b'""]}',
    "15 million numbers": b'{"instances":[' + b"1," * 15_000_000 + b"1]}",
    "one text of backslashes": b'{"instances":["' + b"\\" * 30_000_000 + b'"]}',
}


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    seconds = parser.parse_args().seconds
    print("| bodies | answers | live p50 | p99 | worst |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        version = make_version(Path(folder) / "version")
        with running(version, "--log-level", "warning", "--prediction-log", "off") as server:
            address = server.http.removeprefix("http://")
            for name, body in BODIES.items():
                waits, statuses = measure(address, body, seconds)
                p50, p99 = statistics.median(waits), statistics.quantiles(waits, n=100)[98]
                seen = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
                print(f"| {name} | {seen} | {p50:.1f} | {p99:.1f} | {max(waits):.1f} |", flush=True)
    return 0


def measure(address: str, body: bytes, seconds: float) -> tuple[list[float], Counter[int]]:
    """Milliseconds of each health check, and the statuses of the bodies."""
    ended, statuses = threading.Event(), Counter[int]()
    sending = threading.Thread(target=_send, args=(address, body, ended, statuses))
    sending.start()
    client, waits, until = http.client.HTTPConnection(address, timeout=60), list[float](), time.monotonic() + seconds
    while time.monotonic() < until or len(waits) < 2:
        started = time.perf_counter()
        client.request("GET", "/v2/health/live")
        assert client.getresponse().read()
        waits.append((time.perf_counter() - started) * 1e3)
        time.sleep(0.005)
    ended.set()
    sending.join()
    client.close()
    return waits, statuses


def _send(address: str, body: bytes, ended: threading.Event, statuses: "Counter[int]") -> None:
    while body and not ended.is_set():
        client = http.client.HTTPConnection(address, timeout=120)
        client.request("POST", PATH, body, {"content-type": "application/json"})
        response = client.getresponse()
        response.read()
        statuses[response.status] += 1
        client.close()


if __name__ == "__main__":
    sys.exit(main())
