"""The doors in this process, around a model that a test can hold."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx

from fairlead.inference.config import ServingConfig
from fairlead.inference.repository import Repository
from fairlead.inference.served import Served
from serving.control import Control
from serving.desk import Desk
from serving.exchange import Exchange
from serving.observer import Observer
from serving.protobuf import pb
from serving.rest import RestDoor
from serving.rpc import build_server
from tests.inference.serving import HeldRunner, held

V1 = "/v1/models/topics:predict"
V2 = "/v2/models/topics/infer"


class Ends(Observer):
    """An observer that keeps how each request ended."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def ended(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


@dataclass
class Doors:
    desk: Desk
    door: RestDoor
    served: Served
    runner: HeldRunner
    client: httpx.AsyncClient
    ends: Ends

    async def ask(self, *texts: str, path: str = V1, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, json={"instances": list(texts)}, headers=named)

    async def computing(self) -> None:
        """Until the model has a batch."""
        async with asyncio.timeout(60):
            while not self.runner.batches:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def opened(folder: Path, config: ServingConfig | None = None, allowed: bool = True) -> AsyncIterator[Doors]:
    served, runner = held(folder, config)
    repository, ends = Repository([served]), Ends()
    desk = Desk([ends])
    desk.open(repository)
    door = RestDoor(desk, Control(desk, repository, allowed, alone=True))
    transport = httpx.ASGITransport(door)  # type: ignore[arg-type]
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://doors") as client:
            yield Doors(desk, door, served, runner, client, ends)
    finally:
        runner.free.set()
        served.close()
        repository.close()


Infer = Callable[..., Coroutine[Any, Any, Any]]


@asynccontextmanager
async def rpc_opened(doors: Doors) -> AsyncIterator[Infer]:
    """The gRPC door over a real socket."""
    server, port = build_server(doors.desk, doors.door.control, "127.0.0.1", 0)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
    finally:
        await server.stop(0)


def infer_request(*texts: str) -> Any:
    request = pb.ModelInferRequest(model_name="topics")
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return request


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))
