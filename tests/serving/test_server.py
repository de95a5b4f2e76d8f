"""Start, health under load, drain, and starts that fail."""

import asyncio
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import uvicorn
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from fairlead.errors import FairleadError, Overloaded
from fairlead.formats.model import WEIGHTS, read_manifest
from serving.listening import RestServer, until_answering
from serving.server import main
from tests.inference.serving import held, until
from tests.serving.conftest import Server, running

# Tokenizing this takes over a second on any machine; the model itself reads 16 tokens of each.
HEAVY = ["my card was charged twice " * 200] * 1024


def post_heavy(server: Server) -> int:
    response = server.post(f"/v1/models/{server.model}:predict", json={"instances": HEAVY})
    return len(response.json()["predictions"])


def grpc_heavy(server: Server) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(HEAVY)])
    tensor.contents.bytes_contents.extend(text.encode() for text in HEAVY)
    return pb.ModelInferRequest(model_name=server.model, inputs=[tensor])


def wait_until_in_flight(server: Server, *protocols: str) -> None:
    """A request of each protocol is being answered."""
    lines = {f'fairlead_requests_in_flight{{protocol="{protocol}"}} 1.0' for protocol in protocols}
    deadline = time.monotonic() + 120
    while not lines <= set(server.get("/metrics").text.splitlines()):
        assert time.monotonic() < deadline, "the requests never reached the server"


def test_health_answers_during_inference_and_a_signal_lets_requests_finish(version: Path) -> None:
    started = running(version, "--host", "0.0.0.0")
    with started as server, ThreadPoolExecutor(1) as pool, grpc.insecure_channel(server.grpc) as channel:
        assert server.model == "support_topics", "the project's name where none is given"
        assert listens(server, "127.0.0.2") == [True, True], "it listens everywhere when told to"
        heavy = pool.submit(post_heavy, server)
        wait_until_in_flight(server, "v1")
        answered = 0
        while not heavy.done():
            assert server.get("/v2/health/live").status_code == 200
            assert server.get("/v2/health/ready").status_code == 200
            answered += not heavy.done()
        assert heavy.result() == len(HEAVY)
        assert answered >= 2

        over_http = pool.submit(post_heavy, server)
        over_grpc = GRPCInferenceServiceStub(channel).ModelInfer.future(grpc_heavy(server), timeout=240)
        wait_until_in_flight(server, "v1", "grpc")
        server.process.send_signal(signal.SIGTERM)
        assert over_http.result() == len(HEAVY)
        assert list(over_grpc.result().outputs[0].shape) == [len(HEAVY)]
        rest, _ = server.process.communicate(timeout=120)
        assert server.process.returncode == 0
        assert rest == "", "stdout carries the ready line and nothing else"


def listens(server: Server, host: str) -> list[bool]:
    found = []
    for address in (server.http, server.grpc):
        with socket.socket() as client:
            found.append(client.connect_ex((host, int(address.rsplit(":", 1)[1]))) == 0)
    return found


def test_the_ready_line_names_the_version_and_only_this_machine_is_listened_to(server: Server) -> None:
    manifest = read_manifest(server.folder)
    assert (server.version, server.digest) == (manifest.name, manifest.digest)
    assert server.http.startswith("http://127.0.0.1:") and server.grpc.startswith("127.0.0.1:")
    # Linux routes all of 127/8 to itself: 127.0.0.2 stands for the machine's other addresses.
    assert listens(server, "127.0.0.1") == [True, True]
    assert listens(server, "127.0.0.2") == [False, False]


def check_refusal(code: int, out: str, err: str, *names: str) -> None:
    assert code == 2, err
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    for name in names:
        assert name in line


def test_a_tampered_model_is_not_served(version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(version, tmp_path / "copy"))
    content = bytearray((copy / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (copy / WEIGHTS).write_bytes(content)
    code = main(["--model", str(copy), "--free-port"])
    check_refusal(code, *capsys.readouterr(), WEIGHTS, "SHA-256")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--model", "{tmp}", "--free-port"], "fairlead.json"),
        (["--model", "{version}/config.json", "--free-port"], "config.json: it is a file"),
        (["--model", "support_topics:7", "--free-port"], "support_topics"),
        (["--model", "Support Topics", "--free-port"], "Support Topics"),
        (["--http_port", "many"], "--http_port"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--workers", "0"], "--workers"),
        (["--model", "{version}", "--free-port", "--http_port", "{taken}"], "--http_port"),
        (["--model", "{version}", "--free-port", "--grpc_port", "{taken}"], "--grpc_port"),
        (["--model", "{version}", "--http_port", "70000"], "--http_port"),
        (["--model", "{version}", "--free-port", "--host", "192.0.2.1"], "192.0.2.1"),
    ],
)
def test_a_start_that_cannot_be_is_one_sentence(
    arguments: list[str], name: str, version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"tmp": tmp_path, "version": version, "taken": taken.getsockname()[1]}
        code = main([argument.format(**values) for argument in arguments])
    check_refusal(code, *capsys.readouterr(), name)


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_defect_at_the_start_is_one_sentence_and_a_traceback_only_on_demand(
    level: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["--model", "a/\0", "--free-port", "--log-level", level]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith("error: serving: ValueError: ")
    assert any(record.exc_info for record in caplog.records) == (level == "debug")


def test_a_disk_that_fails_at_the_start_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "/" + "a" * 300, "--free-port"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "File name too long" in line


async def _start_of(config: uvicorn.Config) -> None:
    rest = RestServer(config)
    await asyncio.wait_for(until_answering(rest, asyncio.create_task(rest.serve(sockets=[]))), 60)


async def _never_starts(scope: object, receive: object, send: object) -> None:
    raise RuntimeError("no")


def test_a_rest_server_that_cannot_start_is_not_waited_for() -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(_start_of(uvicorn.Config(_never_starts, ssl_certfile="/nowhere/cert", ssl_keyfile="/nowhere/key")))
    with pytest.raises(FairleadError, match="the REST server cannot start"):
        asyncio.run(_start_of(uvicorn.Config(_never_starts, lifespan="on", log_config=None)))


def test_predictions_that_queue_when_the_server_ends_are_told_so(version: Path) -> None:
    async def ask_and_close() -> None:
        served, runner = held(version)
        runner.free.clear()
        try:
            queued = asyncio.create_task(served.predict(["my card"]))
            await until(lambda: bool(runner.batches))
            served.close()
            await asyncio.wait_for(queued, 60)
        finally:
            runner.free.set()

    with pytest.raises(Overloaded, match="served no more"):
        asyncio.run(ask_and_close())
