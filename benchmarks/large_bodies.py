"""How long health waits while large bodies come: milliseconds of `GET /v2/health/live`, by kind of body.

    python -m benchmarks.large_bodies [--seconds 5] [--only grpc]

A server of a tiny model in a process of its own; one client sends one body after the other, 30 MB or what is stated,
as JSON or as messages of gRPC, and another asks for health every 5 ms. Beside it, by the server's own metric, how late
its event loop was. The first row is without large bodies.
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import orjson

from benchmarks.serving_load import Address
from benchmarks.serving_metrics import LATE, Times
from serving.protobuf import SERVICE, pb
from tests.serving.conftest import Server, running
from tests.tiny import make_version

PATH = "/v1/models/support_topics:predict"
TEXT = "my card was charged twice and where is the parcel "
JSON: dict[str, Callable[[], bytes]] = {
    "none": lambda: b"",
    "1,000 texts of 30 KB": lambda: orjson.dumps({"instances": [TEXT * 600] * 1000}),
    "1,024 x 512 token ids (2 MB)": lambda: orjson.dumps({"instances": [[5] * 512] * 1024}),
    "1 million numbers of 30 digits": lambda: (
        b'{"instances":[' + b"1.2345678901234567890123456789," * 1_000_000 + b"1]}"
    ),
    "15 million numbers": lambda: b'{"instances":[' + b"1," * 15_000_000 + b"1]}",
    "one number of 30 million digits": lambda: b'{"instances":[' + b"1" * 30_000_000 + b"]}",
    "10 million empty lists": lambda: b'{"instances":[' + b"[]," * 10_000_000 + b"1]}",
    "10 million empty texts": lambda: b'{"instances":[' + b'"",' * 10_000_000 + b'""]}',
    "one text of backslashes": lambda: b'{"instances":["' + b"\\" * 30_000_000 + b'"]}',
}


def _message(elements: str, values: list[bytes] | list[int], shape: list[int]) -> bytes:
    request = pb.ModelInferRequest(model_name="support_topics")
    names = {"bytes_contents": ("text", "BYTES"), "int64_contents": ("input_ids", "INT64")}
    tensor = request.inputs.add(name=names[elements][0], datatype=names[elements][1], shape=shape)
    getattr(tensor.contents, elements).extend(values)
    content: bytes = request.SerializeToString()
    return content


RPC: dict[str, Callable[[], bytes]] = {
    "gRPC: 1,000 texts of 15 KB (15 MB)": lambda: _message("bytes_contents", [TEXT.encode() * 300] * 1000, [1000]),
    "gRPC: 1,024 x 512 token ids (0.5 MB)": lambda: _message("int64_contents", [5] * 1024 * 512, [1024, 512]),
    "gRPC: 8 million empty tensors (15 MB)": lambda: b"\x2a\x00" * 7_500_000,
    "gRPC: 8 million groups in groups (15 MB)": lambda: b"\x0b" * 7_500_000 + b"\x0c" * 7_500_000,
    "gRPC: 15 million numbers (15 MB)": lambda: _message("int64_contents", [5] * 15_000_000, [1, 15_000_000]),
}


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", default="", help="kinds of body to send, by a part of their name")
    arguments = parser.parse_args()
    print("| bodies | answers | live p50 | p99 | worst | loop late p99 |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        version = make_version(Path(folder) / "version")
        with running(version, "--log-level", "warning", "--prediction-log", "off") as server:
            for name, body in (JSON | RPC).items():
                if arguments.only in name:
                    print(_row(name, server, body(), arguments.seconds), flush=True)
    return 0


def _row(name: str, server: Server, body: bytes, seconds: float) -> str:
    host, _, port = server.http.removeprefix("http://").partition(":")
    times = Times(Address(host, int(port)), **{LATE: {}})
    send = _send_message if name in RPC else _send
    address = server.grpc if name in RPC else server.http.removeprefix("http://")
    with times:
        waits, statuses = measure(server.http.removeprefix("http://"), lambda: send(address, body), seconds, bool(body))
    p50, p99 = statistics.median(waits), statistics.quantiles(waits, n=100)[98]
    seen = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    return f"| {name} | {seen} | {p50:.1f} | {p99:.1f} | {max(waits):.1f} | {times.percentile_ms(LATE, 99):.1f} |"


def measure(
    address: str, send: Callable[[], str], seconds: float, sends: bool = True
) -> tuple[list[float], Counter[str]]:
    """Milliseconds of each health check, and the statuses of the bodies."""
    ended, statuses = threading.Event(), Counter[str]()

    def go_on() -> None:
        while sends and not ended.is_set():
            statuses[send()] += 1

    sending = threading.Thread(target=go_on)
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


def _send(address: str, body: bytes) -> str:
    client = http.client.HTTPConnection(address, timeout=120)
    client.request("POST", PATH, body, {"content-type": "application/json"})
    response = client.getresponse()
    response.read()
    client.close()
    return str(response.status)


def _send_message(address: str, content: bytes) -> str:
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/ModelInfer")(content, timeout=120)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


if __name__ == "__main__":
    sys.exit(main())
