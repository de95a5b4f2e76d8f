"""What a request costs at the door: CPU of the server a request, ours and kserve's own routes, around an empty model.

    python -m benchmarks.doors [--rounds 3] [--requests 3000]

Each side is a process of its own on uvicorn, httptools and uvloop; the sides take turns, eight connections ask, and
the median of the rounds is printed in milliseconds. The model answers at once, so that only the door is measured; ours
counts, logs and stamps each request, kserve's does not.
"""

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import psutil

from benchmarks.serving_sides import cpu_seconds, free_address
from serving.protobuf import pb

TEXT = "my card was charged twice and I would like to know when the money will be back on my account please tell me "
CONNECTIONS = 8
PROTOCOLS = ("v1", "v2", "grpc")
INFER = "/inference.GRPCInferenceService/ModelInfer"


async def serve_kserve(http: int, rpc: int, _: str) -> None:
    """kserve's routes and servicer."""
    import uvicorn
    from fastapi import FastAPI
    from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
    from kserve.protocol.rest.v2_endpoints import register_v2_endpoints

    class Empty(Model):  # type: ignore[misc]
        async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            if not isinstance(payload, InferRequest):
                return {"predictions": [{"label": "billing", "probability": 0.5}]}
            payload.inputs[0].as_numpy().tolist()
            label = InferOutput("label", [1], "BYTES", data=["billing"])
            return InferResponse("1", "m", [label, InferOutput("probability", [1], "FP32", data=[0.5])])

    model, models = Empty("m"), ModelRepository()
    model.ready = True
    models.update(model)
    plane, extension, app = DataPlane(models), ModelRepositoryExtension(models), FastAPI()
    register_v1_endpoints(app, plane, extension)
    register_v2_endpoints(app, plane, extension)
    server = grpc.aio.server()
    add_GRPCInferenceServiceServicer_to_server(InferenceServicer(plane, extension), server)
    server.add_insecure_port(f"127.0.0.1:{rpc}")
    await server.start()
    await uvicorn.Server(uvicorn.Config(app, port=http, log_config=None, access_log=False)).serve()


async def serve_ours(http: int, rpc: int, folder: str) -> None:
    """The doors of `serving/`."""
    from fairlead.formats.model import read_manifest
    from fairlead.inference.answers import Prediction
    from serving.control import Control
    from serving.desk import Desk
    from serving.journal import Journal
    from serving.listening import bind, rest_server
    from serving.options import build_parser
    from serving.rest import RestDoor
    from serving.rpc import build_server

    answer = Prediction("billing", 0.5, (0.5, 0.3, 0.2))
    room = types.SimpleNamespace(long_tokens=0, tokens=0, tokens_per_second=1.0)

    class Empty:
        name, manifest, variant = "m", read_manifest(Path(folder)), "torch-fp32"
        engine, failure = types.SimpleNamespace(num_token_ids=10, embedding_size=0), ""

        async def predict(self, texts: Any, deadline_seconds: float | None = None) -> Any:
            await asyncio.sleep(0)
            return [answer] * len(texts)

    Empty.room = room  # type: ignore[attr-defined]
    served = Empty()
    repository: Any = types.SimpleNamespace(get=lambda name, version="": served)
    desk = Desk(Journal(build_parser().parse_args(["--prediction-log", "off"])).observers)
    desk.open(repository)
    control = Control(desk, repository, allowed=False, alone=True)
    server, _ = build_server(desk, control, "127.0.0.1", rpc)
    await server.start()
    await rest_server(RestDoor(desk, control), 1).serve(sockets=[bind("127.0.0.1", http)])


async def ask_http(port: int, path: str, body: bytes, count: int) -> None:
    """Ask over connections that are kept alive."""
    request = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    if path.startswith("/v2"):
        request = request.replace(b"host: a", b"host: a\r\ncontent-type: application/json")

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count // CONNECTIONS):
            writer.write(request + body)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200"), head
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


async def ask_grpc(port: int, count: int) -> None:
    """Ask over one channel."""
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(TEXT.encode())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(
            INFER,
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

        async def client() -> None:
            for _ in range(count // CONNECTIONS):
                await infer(request)

        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


def asked(protocol: str, http: int, rpc: int, count: int) -> Callable[[], Awaitable[None]]:
    """What asks a server in a protocol."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    v1, v2 = json.dumps({"instances": [TEXT]}).encode(), json.dumps({"inputs": [tensor]}).encode()
    return {
        "v1": lambda: ask_http(http, "/v1/models/m:predict", v1, count),
        "v2": lambda: ask_http(http, "/v2/models/m/infer", v2, count),
        "grpc": lambda: ask_grpc(rpc, count),
    }[protocol]


def measure(rounds: int, count: int) -> dict[tuple[str, str], float]:
    """Milliseconds of CPU a request, by side and protocol."""
    from tests.tiny import make_version

    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_version(Path(folder) / "v")
        sides = {side: _start(side, str(Path(folder) / "v")) for side in ("kserve", "ours")}
        try:
            # The first round warms up.
            for turn in range(rounds + 1):
                for side, (process, http, rpc) in sides.items():
                    for protocol in PROTOCOLS:
                        before = cpu_seconds(process)
                        asyncio.run(asked(protocol, http, rpc, count)())  # type: ignore[arg-type]
                        spent = 1e3 * (cpu_seconds(process) - before) / count
                        found.setdefault((side, protocol), []).extend([spent] if turn else [])
        finally:
            for process, _, _ in sides.values():
                process.kill()
    return {key: statistics.median(values) for key, values in found.items()}


def _start(side: str, folder: str) -> tuple[psutil.Popen, int, int]:
    ports = [free_address().port, free_address().port]
    command = [sys.executable, "-m", "benchmarks.doors", "--serve", side, *map(str, ports), folder]
    process = psutil.Popen(command, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", ports[0])).close()
            return process, ports[0], ports[1]
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{side}: it does not start; run {' '.join(command)}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        import uvloop

        side, http, rpc, folder = options.serve
        uvloop.run({"kserve": serve_kserve, "ours": serve_ours}[side](int(http), int(rpc), folder))
        return
    found = measure(options.rounds, options.requests)
    print("| ms of CPU a request | kserve | ours |\n|---|---|---|")
    for protocol in PROTOCOLS:
        print(f"| {protocol} | {found['kserve', protocol]:.2f} | {found['ours', protocol]:.2f} |")


if __name__ == "__main__":
    main()
